"""Reading goes on at the byte where it was left, in the same file, or not at all."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.connectors import parquet, reader
from ostinato.cep.connectors.base import Chunk, Reader, SourceError
from ostinato.cep.connectors.factory import check_repeatable, reader_for
from ostinato.cep.connectors.parquet import ParquetReader
from ostinato.cep.connectors.reader import FileReader, Framing, StreamReader
from ostinato.patterns.ast import Connector, FieldDecl, Stream, TimeDecl
from ostinato.patterns.types import STRING, TIMESTAMP

PACK: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_WAIT_S", 0.001)


def chunks_of(reader: Reader, tries: int = 1) -> list[Chunk]:
    """What comes until the end; of a followed file until nothing has come for some `tries`."""
    found: list[Chunk] = []
    while tries and (chunk := reader.read()) is not None:
        if isinstance(chunk, Chunk):
            found.append(chunk)
        else:
            tries -= 1
    reader.close()
    return found


def records(chunks: Sequence[Chunk]) -> list[tuple[str, int, bytes]]:
    """Place and text of each line, however they are cut into chunks, and what was too long."""
    made = []
    for chunk in chunks:
        offset = chunk.first_offset
        made += [(bad.source, bad.offset, b"too long") for bad in chunk.rejected]
        for line in bytes(chunk.text).splitlines(keepends=True):
            made.append((chunk.source, offset, line))
            offset += len(line)
    return made


def kept(chunk: Chunk) -> Any:
    """The position as it comes back from a checkpoint."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(chunk.position))


lines = st.lists(st.sampled_from([b"a", b"", b"bb,1", b'"q\n,x"', b"c" * 70, b"d" * 300]), max_size=25)
files = st.lists(st.tuples(lines, st.sampled_from(list(PACK)), st.booleans()), min_size=1, max_size=3)


@given(files, st.integers(4, 200), st.booleans(), st.booleans(), st.data())
@settings(max_examples=150, deadline=None)
def test_cut_anywhere_and_gone_on(
    given_files: list[tuple[list[bytes], str, bool]], size: int, header: bool, follow: bool, data: st.DataObject
) -> None:
    framing = Framing(quote=34 if header else None, header=header, chunk_bytes=size, max_record_bytes=250)
    with tempfile.TemporaryDirectory() as folder:
        for number, (held, pack, ended) in enumerate(given_files):
            content = b"\n".join([*([b"h1,h2"] if header else []), *held]) + (b"\n" if ended and held else b"")
            (Path(folder) / f"{number}.log").write_bytes(PACK[pack](content))
        target = str(Path(folder) / "*.log")
        chunks = chunks_of(FileReader(target, framing, follow=follow))
        if not chunks:
            return
        cut = data.draw(st.integers(0, len(chunks) - 1))
        again = FileReader(target, framing, follow=follow)
        again.seek(kept(chunks[cut]))
        rest = chunks_of(again)
        assert records(rest) == records(chunks[cut + 1 :])
        assert {chunk.header for chunk in rest} <= {b"h1,h2" if header else None}
        if rest and rest[0].source == chunks[cut].source and not rest[0].rejected:
            assert rest[0].first_line == chunks[cut + 1].first_line


@given(st.lists(st.lists(st.integers(1, 40), max_size=4), min_size=1, max_size=3), st.integers(1, 30), st.data())
@settings(max_examples=60, deadline=None)
def test_parquet_cut_anywhere_and_gone_on(groups: list[list[int]], size: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_ROWS", size)
        n = 0
        schema = pyarrow.schema([("n", pyarrow.int64())])
        for number, sizes in enumerate(groups):
            with pyarrow.parquet.ParquetWriter(Path(folder) / f"{number}.parquet", schema) as writer:
                for rows in sizes:
                    writer.write_table(pyarrow.table({"n": list(range(n, n + rows))}, schema=schema))
                    n += rows
        target = str(Path(folder) / "*.parquet")

        def rows_of(chunks: Sequence[Chunk]) -> list[int]:
            return [value for chunk in chunks for value in chunk.data.column("n").to_pylist()]

        chunks = chunks_of(ParquetReader(target))
        assert rows_of(chunks) == list(range(n))
        if not chunks:
            return
        cut = data.draw(st.integers(0, len(chunks) - 1))
        patch.setattr(parquet, "_ROWS", data.draw(st.integers(1, 30)))
        again = ParquetReader(target)
        again.seek(kept(chunks[cut]))
        rest = chunks_of(again)
        assert rows_of(rest) == rows_of(chunks[cut + 1 :])
        if rest and rest[0].source == chunks[cut].source:
            assert rest[0].first_line == kept(chunks[cut])["row"] + 1


DATA = b"".join(b"line %d\n" % number for number in range(1000))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.log"


def first_of(path: Path, *, follow: bool = False, size: int = 4000, pattern: str | None = None) -> Any:
    """The position after the first chunk."""
    reader = FileReader(pattern or str(path), Framing(chunk_bytes=size), follow=follow)
    chunk = reader.read()
    reader.close()
    assert isinstance(chunk, Chunk)
    return kept(chunk)


def rest_of(path: Path, position: Any, *, follow: bool = False) -> bytes:
    reader = FileReader(str(path), Framing(chunk_bytes=4000), follow=follow)
    reader.seek(position)
    return b"".join(bytes(chunk.text) for chunk in chunks_of(reader, 4))


def change_first(data: bytes) -> bytes:
    return b"LINE" + data[4:]


def change_before(data: bytes) -> bytes:
    return data[:3000] + b"?" * 900 + data[3900:]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("pack", list(PACK))
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_first, "it begins with other bytes than the file that was read"),
        (change_before, r"what stands before byte \d+ is not what was read there"),
        (lambda data: data[:3000], r"it has 3000 bytes, and had been read up to byte \d+"),
    ],
)
def test_a_file_that_was_replaced_or_cut_is_refused(
    path: Path, follow: bool, pack: str, change: Callable[[bytes], bytes], message: str
) -> None:
    path.write_bytes(PACK[pack](DATA))
    position = first_of(path, follow=follow)
    path.write_bytes(PACK[pack](change(DATA)))
    with pytest.raises(SourceError, match=rf"cannot go on in {path}: {message}.*; put back the file"):
        rest_of(path, position, follow=follow)


@pytest.mark.parametrize("follow", [False, True])
def test_a_file_that_grew_or_was_copied_is_the_same(path: Path, follow: bool) -> None:
    path.write_bytes(DATA)
    position = first_of(path, follow=follow)
    path.rename(path.with_name("other"))
    path.write_bytes(DATA + b"more\n")
    assert rest_of(path, position, follow=follow) == DATA[position["offset"] :] + b"more\n"


def test_files_that_are_done_are_not_read_again(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.log").write_bytes(name.encode() + b"1\n" + name.encode() + b"2\n")
    target = tmp_path / "*.log"
    positions = [kept(chunk) for chunk in chunks_of(FileReader(str(target)))]
    (tmp_path / "a.log").write_bytes(b"changed\n")
    assert rest_of(target, positions[1]) == b"c1\nc2\n"
    (tmp_path / "b.log").unlink()
    assert rest_of(target, positions[1]) == b"c1\nc2\n", "it had been read in full"
    (tmp_path / "a.log").unlink()
    with pytest.raises(SourceError, match=r"a.log: it is not among the files of .* any more; put back"):
        rest_of(target, {**positions[0], "whole": False})


def test_a_followed_file_that_was_rotated_more_than_once(path: Path) -> None:
    path.write_bytes(b"one\n")
    position = first_of(path, follow=True)
    with path.open("ab") as file:
        file.write(b"two\n")
    oldest, newer = path.with_name("events.log.2.gz"), path.with_name("events.log.1")
    oldest.write_bytes(gzip.compress(path.read_bytes()))
    newer.write_bytes(b"three\n")
    path.with_name("events.log-notes").write_bytes(b"no log\n")
    path.write_bytes(b"four\n")
    for age, each in enumerate((path, newer, oldest)):
        os.utime(each, (10**9 - age, 10**9 - age))
    assert rest_of(path, position, follow=True) == b"two\nthree\nfour\n"


def test_a_followed_file_that_was_copied_and_cut(path: Path) -> None:
    path.write_bytes(b"one\ntwo\n")
    position = first_of(path, follow=True, size=5)
    assert position["offset"] == 4
    path.with_name("events.log.1").write_bytes(path.read_bytes())
    path.write_bytes(b"3\n")
    assert rest_of(path, position, follow=True) == b"two\n3\n"


def test_a_followed_file_that_is_gone(path: Path) -> None:
    path.write_bytes(DATA)
    position = first_of(path, follow=True)
    path.unlink()
    with pytest.raises(SourceError, match="it is gone, and no rotated file beside it is the one; put back"):
        rest_of(path, position, follow=True)


def test_a_rotated_file_of_a_followed_series(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    position = first_of(path, follow=True, pattern=str(tmp_path / "*.log"))
    path.rename(tmp_path / "a.log.1")
    with (tmp_path / "a.log.1").open("ab") as file:
        file.write(b"two\n")
    path.write_bytes(b"three\n")
    (tmp_path / "b.log").write_bytes(b"four\n")
    assert rest_of(tmp_path / "*.log", position, follow=True) == b"two\nthree\nfour\n"


def test_a_position_in_a_rotated_file_is_that_of_the_file(path: Path) -> None:
    path.write_bytes(DATA)
    position = first_of(path, follow=True)
    path.rename(path.with_name("events.log.1"))
    path.write_bytes(b"new\n")
    for _ in range(3):
        reader = FileReader(str(path), Framing(chunk_bytes=2000), follow=True)
        reader.seek(position)
        chunk = reader.read()
        reader.close()
        assert isinstance(chunk, Chunk)
        position = kept(chunk)
    assert rest_of(path, position, follow=True) == DATA[position["offset"] :] + b"new\n"


def test_following_from_the_end_goes_on_there_after_a_restart(path: Path) -> None:
    path.write_bytes(b"old\n")
    reader = FileReader(str(path), follow=True, from_end=True)
    (chunk,) = chunks_of(reader, 2)
    with path.open("ab") as file:
        file.write(b"new\n")
    again = FileReader(str(path), follow=True, from_end=True)
    again.seek(kept(chunk))
    assert [bytes(chunk.text) for chunk in chunks_of(again, 2)] == [b"new\n"]


def test_a_header_is_known_also_from_the_end(path: Path) -> None:
    path.write_bytes(b"h1,h2\n1,2\n")
    reader = FileReader(str(path), Framing(header=True), follow=True, from_end=True)
    reader.read()
    with path.open("ab") as file:
        file.write(b"3,4\n")
    (chunk,) = chunks_of(reader, 1)
    assert (chunk.header, bytes(chunk.text)) == (b"h1,h2", b"3,4\n")


def test_another_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2, 3]}), path)
    (chunk,) = chunks_of(ParquetReader(str(path)))
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2, 4]}), path)
    reader = ParquetReader(str(path))
    with pytest.raises(
        SourceError, match=r"cannot go on in .*a.parquet: it is another file than the one that was read"
    ):
        reader.seek(kept(chunk))
    other = tmp_path / "b.parquet"
    path.rename(other)
    with pytest.raises(SourceError, match="it is not among the files of"):
        ParquetReader(str(other)).seek(kept(chunk))


def stream_of(target: str | None) -> Stream:
    columns = (FieldDecl("k", STRING, key=True), FieldDecl("ts", TIMESTAMP))
    return Stream("s", columns, TimeDecl("ts"), Connector("file" if target else "stdin", target))


def test_what_cannot_be_read_again_is_refused_where_there_are_checkpoints(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    refused = pytest.raises(SourceError, match=r"s: standard input cannot be read a second time, .* from a file")
    with os.fdopen(read_end, "rb", buffering=0) as stdin, refused:
        check_repeatable(stream_of(None), StreamReader(stdin))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(SourceError, match=rf"stream s: {fifo} cannot be read a second time"):
        check_repeatable(stream_of(str(fifo)), reader_for(stream_of(str(fifo))))
    for name in ("a.jsonl", "a.parquet"):
        (tmp_path / name).write_bytes(b"")
        check_repeatable(stream_of(str(tmp_path / name)), reader_for(stream_of(str(tmp_path / name))))
    later = stream_of(str(tmp_path / "later"))
    check_repeatable(later, reader_for(later, follow=True))
