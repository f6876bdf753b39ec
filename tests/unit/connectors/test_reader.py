"""Files, series of files, growing files and pipes, in chunks of whole records."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.connectors import reader as reader_module
from ostinato.cep.connectors.base import Chunk, Idle, Reader, SourceError
from ostinato.cep.connectors.reader import FileReader, Framer, Framing, StreamReader

SMALL = Framing(chunk_bytes=16)


def read_all(reader: Reader) -> list[Chunk]:
    """Every chunk until the end, or until nothing comes."""
    chunks = []
    while isinstance(chunk := reader.read(), Chunk):
        chunks.append(chunk)
    return chunks


def text(chunks: list[Chunk]) -> bytes:
    return b"".join(bytes(chunk.text) for chunk in chunks)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_WAIT_S", 0.001)


lines = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20)


@given(lines, st.integers(1, 64), st.booleans(), st.lists(st.integers(1, 30), max_size=50))
@settings(max_examples=200, deadline=None)
def test_chunks_are_whole_lines_and_nothing_is_lost(
    given_lines: list[bytes], size: int, final: bool, portions: list[int]
) -> None:
    data = b"\n".join(given_lines) + (b"\n" if final else b"")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return
    framer = Framer(Framing(chunk_bytes=size), "f")
    chunks, at = [], 0
    for portion in [*portions, *[7] * len(data)]:
        room = framer.room()
        part = data[at : at + min(portion, len(room))]
        room[: len(part)] = part
        at += len(part)
        framer.filled(len(part))
        chunks.append(framer.cut(final=False))
    chunks.append(framer.cut(final=True))
    found = [chunk for chunk in chunks if chunk is not None]
    assert text(found) == data
    offset, line = 0, 1
    for index, chunk in enumerate(found):
        held = bytes(chunk.text)
        assert held.endswith(b"\n") or index == len(found) - 1
        assert (chunk.first_offset, chunk.first_line) == (offset, line)
        assert bytes(chunk.data[chunk.size : chunk.size + 17]) == b"\n" + bytes(16)
        offset, line = offset + len(held), line + held.count(b"\n")


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, zstandard.compress, lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
     lambda data: zstandard.compress(data[:100]) + zstandard.compress(data[100:])],
)  # fmt: skip
def test_compressed_files_are_known_by_their_first_bytes(path: Path, pack: Callable[[bytes], bytes]) -> None:
    data = b"".join(b'{"n":%d}\n' % i for i in range(1000))
    path.write_bytes(pack(data))
    reader = FileReader(str(path), SMALL)
    chunks = read_all(reader)
    assert text(chunks) == data
    assert len(chunks) > 100


def test_files_come_one_after_the_other_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.log").write_text(f"{name}1\n{name}2")
    (tmp_path / "d.log").mkdir()
    chunks = read_all(FileReader(str(tmp_path / "*.log")))
    assert [bytes(chunk.text) for chunk in chunks] == [b"a1\na2", b"b1\nb2", b"c1\nc2"]
    assert [Path(chunk.source).name for chunk in chunks] == ["a.log", "b.log", "c.log"]
    assert [chunk.first_line for chunk in chunks] == [1, 1, 1]


def test_an_empty_file_and_a_file_of_a_byte_order_mark(path: Path) -> None:
    path.write_bytes(b"")
    assert read_all(FileReader(str(path))) == []
    path.write_bytes(b"\xef\xbb\xbf{}\n{}")
    (chunk,) = read_all(FileReader(str(path)))
    assert bytes(chunk.text) == b"{}\n{}"
    assert chunk.first_offset == 3


@pytest.mark.parametrize("size", [100, 1000])
def test_reading_goes_on_after_any_chunk(path: Path, size: int) -> None:
    data = b"".join(b"line %d\n" % i for i in range(500))
    path.write_bytes(gzip.compress(data) if size == 1000 else data)
    framing = Framing(chunk_bytes=size)
    chunks = read_all(FileReader(str(path), framing))
    for index in range(0, len(chunks), 3):
        reader = FileReader(str(path), framing)
        reader.seek(chunks[index].position)
        rest = read_all(reader)
        assert text(rest) == text(chunks[index + 1 :])
        if rest:
            assert rest[0].first_line == chunks[index + 1].first_line


def test_a_very_long_line_is_one_record(path: Path) -> None:
    path.write_bytes(b"a" * 3_000_000 + b"\nb\n")
    chunks = read_all(FileReader(str(path)))
    assert text(chunks) == path.read_bytes()
    assert chunks[0].size >= 3_000_001


def test_a_line_beyond_the_limit_is_rejected_without_being_held(path: Path) -> None:
    path.write_bytes(b"a\n" + b"x" * 5000 + b"\nb\n")
    framing = Framing(chunk_bytes=64, max_record_bytes=1000)
    chunks = read_all(FileReader(str(path), framing))
    assert text(chunks) == b"a\nb\n"
    (bad,) = [record for chunk in chunks for record in chunk.rejected]
    assert (bad.line, bad.offset, bad.raw[:3]) == (2, 2, b"xxx")
    assert bad.reason.startswith("record longer than 1000 bytes")
    assert chunks[-1].first_line == 3
    path.write_bytes(b"x" * 5000)
    (chunk,) = read_all(FileReader(str(path), framing))
    assert (chunk.size, len(chunk.rejected)) == (0, 1)


@pytest.mark.parametrize("kind", ["file", "followed", "pipe"])
def test_whether_a_line_is_too_long_does_not_depend_on_how_much_is_read_at_a_time(path: Path, kind: str) -> None:
    path.write_bytes(b"a\n" + b"x" * 1001 + b"\n" + b"y" * 1000 + b"\nb\n" + b"z" * 1001)
    for size in (64, 2048, 1 << 20):
        framing = Framing(chunk_bytes=size, max_record_bytes=1000)
        if kind == "pipe":
            with path.open("rb", buffering=0) as stream:
                chunks = read_all(StreamReader(stream, framing))
        else:
            reader = FileReader(str(path), framing, follow=kind == "followed")
            chunks = read_all(reader)
            reader.close()
        assert text(chunks) == b"a\n" + b"y" * 1000 + b"\nb\n"
        bad = [(record.line, record.offset, len(record.raw)) for chunk in chunks for record in chunk.rejected]
        # of a followed file the last line may go on
        assert bad == [(2, 2, 1000), (5, 2007, 1000)][: 1 if kind == "followed" else 2]


def test_records_of_csv_end_outside_of_quotes(path: Path) -> None:
    path.write_bytes(b'h1,h2\r\n"a\nb",1\n"c ""\n\n d",2\ne,3')
    framing = Framing(quote=34, header=True, chunk_bytes=12)
    chunks = read_all(FileReader(str(path), framing))
    assert text(chunks) == b'"a\nb",1\n"c ""\n\n d",2\ne,3'
    assert {chunk.header for chunk in chunks} == {b"h1,h2"}
    assert all(bytes(chunk.text).count(b'"') % 2 == 0 for chunk in chunks)
    reader = FileReader(str(path), framing)
    reader.seek(chunks[0].position)
    assert text(read_all(reader)) == text(chunks[1:])


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "event.jsonl", "cannot read {folder}/event.jsonl: there is no such file; did you mean `events.jsonl`?"),
        (b"", "*.csv", "no file matches {folder}/*.csv"),
        (b"", "", "it is a folder; name its files"),
        (b"", "no/such", "there is no folder"),
        ("{}".encode("utf-16"), "events.jsonl", "it is UTF-16; convert it to UTF-8"),
        (gzip.compress(b"{}\n" * 1000, mtime=0)[:-9], "events.jsonl", "the compressed file is cut short"),
        (gzip.compress(b"{}\n" * 1000, mtime=0)[:20] + b"\xff" * 30, "events.jsonl", "the compressed file is damaged"),
        (zstandard.compress(b"{}\n" * 1000)[:10] + b"\xff" * 30, "events.jsonl", "the compressed file is damaged"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(path: Path, content: bytes, name: str, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        read_all(FileReader(str(path.parent / name)))
    assert message.replace("{folder}", str(path.parent)) in str(caught.value)
    assert "\n" not in str(caught.value)


class Followed:
    """A file that is written to while it is followed."""

    def __init__(self, target: Path, **options: Any) -> None:
        self.reader = FileReader(str(target), follow=True, **options)

    def news(self) -> list[bytes]:
        """What has come since, as chunks."""
        found = []
        for _ in range(4):
            chunk = self.reader.read()
            assert chunk is not None
            if isinstance(chunk, Chunk):
                found.append(bytes(chunk.text))
        return found


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_growing_file_is_followed_line_by_line(path: Path) -> None:
    followed = Followed(path)
    assert followed.news() == []
    append(path, b"one\ntw")
    assert followed.news() == [b"one\n"]
    append(path, b"o")
    assert followed.news() == []
    append(path, b"\nthree\n")
    assert followed.news() == [b"two\nthree\n"]
    followed.reader.close()


def test_a_followed_file_that_is_replaced_is_read_to_its_end_first(path: Path) -> None:
    followed = Followed(path)
    append(path, b"one\n")
    assert followed.news() == [b"one\n"]
    append(path, b"two\nlast without an end")
    path.rename(path.with_suffix(".1"))
    append(path, b"new\n")
    assert followed.news() == [b"two\nlast without an end", b"new\n"]
    path.rename(path.with_suffix(".2"))
    append(path.with_suffix(".2"), b"late\n")
    assert followed.news() == [b"late\n"]
    append(path, b"newest\n")
    assert followed.news() == [b"newest\n"]
    followed.reader.close()


def test_a_followed_file_that_is_truncated_is_read_anew(path: Path) -> None:
    followed = Followed(path)
    append(path, b"one\ntwo\nth")
    assert followed.news() == [b"one\ntwo\n"]
    path.write_bytes(b"1\n")
    assert followed.news() == [b"1\n"]
    followed.reader.close()


def test_following_can_begin_at_the_end(path: Path) -> None:
    path.write_bytes(b"old\n")
    followed = Followed(path, from_end=True)
    assert followed.news() == [b""], "so that it is known where reading began, also after a restart"
    append(path, b"new\n")
    assert followed.news() == [b"new\n"]
    followed.reader.close()


def test_a_followed_series_goes_on_with_the_next_file(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "*.log")
    assert followed.news() == []
    append(tmp_path / "1.log", b"a\n")
    assert followed.news() == [b"a\n"]
    append(tmp_path / "1.log", b"b\n")
    append(tmp_path / "2.log", b"c\n")
    assert followed.news() == [b"b\n", b"c\n"]
    followed.reader.close()


def test_following_goes_on_in_a_file_that_was_renamed_meanwhile(path: Path) -> None:
    path.write_bytes(b"one\n")
    reader = FileReader(str(path), follow=True)
    chunk = reader.read()
    assert isinstance(chunk, Chunk)
    reader.close()
    append(path, b"two\n")
    path.rename(path.with_name(path.name + ".1"))
    append(path, b"three\n")
    followed = Followed(path)
    followed.reader.seek(chunk.position)
    assert followed.news() == [b"two\n", b"three\n"]
    followed.reader.close()


@pytest.fixture
def pipe() -> Iterator[tuple[StreamReader, int]]:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as stream:
        yield StreamReader(stream, SMALL), write_end


def test_a_pipe_gives_what_is_there_and_is_idle_otherwise(pipe: tuple[StreamReader, int]) -> None:
    reader, write_end = pipe
    assert reader.read() == Idle()
    os.write(write_end, b"one\ntw")
    chunk = reader.read()
    assert isinstance(chunk, Chunk)
    assert bytes(chunk.text) == b"one\n"
    assert reader.read() == Idle()
    os.write(write_end, b"o\n" + b"a longer line than a chunk is\n" + b"last")
    os.close(write_end)
    chunks = read_all(reader)
    assert text(chunks) == b"two\na longer line than a chunk is\nlast"
    assert reader.read() is None


def test_a_pipe_that_ends_at_once(pipe: tuple[StreamReader, int]) -> None:
    reader, write_end = pipe
    os.close(write_end)
    assert reader.read() is None


def test_a_pipe_cannot_be_read_again(pipe: tuple[StreamReader, int]) -> None:
    reader, write_end = pipe
    os.close(write_end)
    with pytest.raises(SourceError, match="cannot be read a second time"):
        reader.seek({"offset": 0})


def test_a_named_pipe_is_read_as_a_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    os.write(writer, b"a\nb\n")
    reader = FileReader(str(fifo), Framing(chunk_bytes=4))
    chunk = reader.read()
    os.close(writer)
    assert isinstance(chunk, Chunk)
    assert bytes(chunk.text) == b"a\nb\n"
    assert reader.read() is None
