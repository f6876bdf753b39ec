"""The match log: what was appended is read in order, by whoever, while it grows; crashes, damage, retention."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostinato.server.matches import (
    Filter,
    Kind,
    Match,
    MatchesGoneError,
    MatchLogBusyError,
    MatchLogDamagedError,
    MatchLogError,
    MatchLogFullError,
    MatchLogOptions,
    MatchLogReader,
    MatchLogWriter,
    Rows,
)
from ostinato.server.matches.format import BLOCK_ROWS, HEAD_BYTES, MARK, bases, index_path, segment_path
from ostinato.state.steps import VARIABLE

SMALL = MatchLogOptions(segment_bytes=2_000, retain_bytes=None, retain_ms=None)
Values = Sequence[bytes]


def rows(
    *values: bytes,
    stream: str = "alerts",
    kind: Kind = "match",
    patterns: Sequence[tuple[str, int]] = (("fraud", 1), ("login", 2)),
    at_ms: int = 1_000,
    position: int = 7,
) -> Rows:
    n = len(values)
    of = np.arange(n, dtype=np.uint16) % max(1, len(patterns))
    return Rows(stream, kind, patterns, of.astype(np.uint16), np.arange(n) + 50, position, at_ms, values)


def numbered(first: int, count: int, **more: int) -> Rows:
    return rows(*(b'{"n":%d}' % n for n in range(first, first + count)), **more)  # type: ignore[arg-type]


def seqs(matches: Sequence[Match]) -> list[int]:
    return [match.seq for match in matches]


def read_all(folder: Path, after: int = 0, limit: int = 100) -> list[Match]:
    reader = MatchLogReader(folder)
    found: list[Match] = []
    while got := reader.read(after, limit):
        found += got
        after = got[-1].seq
    reader.close()
    return found


def fill(folder: Path, count: int, options: MatchLogOptions = SMALL, each: int = 3) -> None:
    """Rows {"n": seq}, in blocks of `each`."""
    writer = MatchLogWriter(folder, options)
    for first in range(writer.next_seq, writer.next_seq + count, each):
        writer.append(numbered(first, each, at_ms=first * 10))
    writer.close()


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    writer = MatchLogWriter(tmp_path)
    assert writer.next_seq == 1
    assert writer.append(rows(b'{"a":1}', b'{"a":2}', b'{"a":3}')) == 1
    assert writer.append(rows(stream="nothing")) == 4
    assert writer.append(rows(b'{"why":"x"}', stream="logins", kind="dead letter", patterns=(), at_ms=1_001)) == 4
    assert writer.next_seq == 5
    reader = MatchLogReader(tmp_path)
    assert reader.read(0, 10) == [
        Match(1, "alerts", "match", "fraud", 1, 50, 7, 1_000, b'{"a":1}'),
        Match(2, "alerts", "match", "login", 2, 51, 7, 1_000, b'{"a":2}'),
        Match(3, "alerts", "match", "fraud", 1, 52, 7, 1_000, b'{"a":3}'),
        Match(4, "logins", "dead letter", "", 0, 50, 7, 1_001, b'{"why":"x"}'),
    ]
    assert (reader.first_seq, reader.last_seq) == (1, 4)
    reader.close()
    writer.close()


def test_an_empty_log(tmp_path: Path) -> None:
    reader = MatchLogReader(tmp_path / "not there yet")
    assert reader.read(0, 10) == []
    assert (reader.first_seq, reader.last_seq) == (1, 0)
    MatchLogWriter(tmp_path / "not there yet").close()
    assert reader.read(0, 10) == reader.read(99, 10) == []
    reader.close()


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    for _ in range(5):
        fill(tmp_path, 30)
    assert [match.value for match in read_all(tmp_path)] == [b'{"n":%d}' % n for n in range(1, 151)]
    assert len(bases(tmp_path)) > 2


def test_every_place_to_begin_at_over_many_segments(tmp_path: Path) -> None:
    fill(tmp_path, 90)
    reader = MatchLogReader(tmp_path)
    places = list(range(92))
    random.Random(4).shuffle(places)
    for after in places:
        assert seqs(reader.read(after, 5)) == list(range(after + 1, min(after + 6, 91)))
    assert reader.last_seq == 90
    reader.close()


def test_limits_of_an_answer(tmp_path: Path) -> None:
    writer = MatchLogWriter(tmp_path)
    writer.append(rows(*(b'{"v":"%s"}' % (b"x" * 1_000) for _ in range(10))))
    writer.append(rows(b'{"v":"%s"}' % (b"x" * 1_000)))
    reader = MatchLogReader(tmp_path)
    assert seqs(reader.read(0, 100, max_bytes=3_500)) == [1, 2, 3]
    assert seqs(reader.read(3, 100, max_bytes=10)) == [4]  # one at least
    assert seqs(reader.read(4, 2)) == [5, 6]
    assert seqs(reader.read(9, 2)) == [10, 11]
    reader.close()
    writer.close()


def test_many_and_large_rows_are_split_into_blocks(tmp_path: Path) -> None:
    writer = MatchLogWriter(tmp_path)
    count = 2 * BLOCK_ROWS + 5
    assert writer.append(numbered(1, count)) == 1
    large = b'{"v":"%s"}' % (b"y" * (3 << 20))
    assert writer.append(rows(b"{}", large, b"{}")) == count + 1
    found = read_all(tmp_path, limit=1_000)
    assert [match.value for match in found] == [b'{"n":%d}' % n for n in range(1, count + 1)] + [b"{}", large, b"{}"]
    assert [match.pattern for match in found[:3]] == ["fraud", "login", "fraud"]
    writer.close()


def test_a_filter_says_how_far_it_has_looked(tmp_path: Path) -> None:
    writer = MatchLogWriter(tmp_path)
    for _ in range(50):
        writer.append(rows(b"{}", stream="noise"))
    writer.append(rows(b"{}", b"{}", b"{}", stream="alerts"))
    writer.append(rows(b"{}", stream="alerts", kind="timeout"))
    reader = MatchLogReader(tmp_path)
    scan = reader.scan(0, 10, Filter(streams=frozenset({"alerts"})))
    assert (seqs(scan.matches), scan.behind) == ([51, 52, 53, 54], 54)
    scan = reader.scan(0, 1, Filter(patterns=frozenset({"login"}), streams=frozenset({"alerts"})))
    assert (seqs(scan.matches), scan.behind) == ([52], 53)
    scan = reader.scan(0, 1, Filter(kinds=frozenset({"late"})))
    assert (seqs(scan.matches), scan.behind) == ([], 54)
    assert reader.scan(54, 1, Filter(kinds=frozenset({"late"}))).behind == 54
    reader.close()
    writer.close()


def test_a_reader_finds_its_place_without_reading_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MatchLogWriter(tmp_path)
    for first in range(1, 60_000, 20):
        writer.append(rows(*(b'{"n":%d,"pad":"%s"}' % (n, b"p" * 90) for n in range(first, first + 20))))
    total = segment_path(tmp_path, 1).stat().st_size
    assert total > 6 << 20
    read = 0
    inner = os.pread

    def counting(file: int, size: int, at: int) -> bytes:
        nonlocal read
        data = inner(file, size, at)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", counting)
    reader = MatchLogReader(tmp_path)
    assert seqs(reader.read(50_006, 1)) == [50_007]
    assert read < 2 << 20
    # an index that says nonsense is only slower
    index_path(tmp_path, 1).write_bytes(os.urandom(999))
    assert seqs(reader.read(30_006, 1)) == [30_007]
    index_path(tmp_path, 1).unlink()
    assert seqs(reader.read(40_006, 1)) == [40_007]
    reader.close()
    writer.close()


def test_readers_follow_a_log_that_grows_and_is_cut_into_segments(tmp_path: Path) -> None:
    count = 4_000
    failures: list[str] = []
    done = threading.Event()

    def follow() -> None:
        reader = MatchLogReader(tmp_path)
        after = 0
        while after < count and not done.is_set():
            for match in reader.read(after, 50):
                if match.seq != after + 1 or match.value != b'{"n":%d}' % match.seq:
                    failures.append(f"{match} behind {after}")
                    return
                after = match.seq
            if reader.last_seq < after:
                failures.append(f"last {reader.last_seq}, read {after}")
        reader.close()
        if after < count:
            failures.append(f"only up to {after}")

    threads = [threading.Thread(target=follow) for _ in range(3)]
    for thread in threads:
        thread.start()
    writer = MatchLogWriter(tmp_path, MatchLogOptions(segment_bytes=5_000))
    seq = 1
    while seq <= count:
        n = min(random.randrange(1, 9), count + 1 - seq)
        writer.append(numbered(seq, n))
        seq += n
        if seq % 500 < 5:
            writer.sync()
    for thread in threads:
        thread.join(30)
    done.set()
    writer.close()
    assert not failures
    assert len(bases(tmp_path)) > 10


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 60)), min_size=1, max_size=8), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_tail_is_cut_wherever_it_is_torn(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[int, int]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    writer = MatchLogWriter(folder, MatchLogOptions(segment_bytes=400))
    ends = [(0, 0)]
    for count, pad in blocks:
        writer.append(rows(*(b'"%s"' % (b"z" * pad) for _ in range(count))))
        ends.append((segment_path(folder, bases(folder)[-1]).stat().st_size, writer.next_seq - 1))
    writer.close()
    (folder / MARK).unlink(missing_ok=True)  # as if the machine had never got to it
    base = bases(folder)[-1]
    path = segment_path(folder, base)
    size = data.draw(st.integers(0, path.stat().st_size))
    os.truncate(path, size)
    if data.draw(st.booleans()):
        with path.open("ab") as file:
            file.write(data.draw(st.binary(max_size=50)))
    whole = max((seq for end, seq in ends if end <= size and seq >= base and size >= HEAD_BYTES), default=base - 1)
    assert len(read_all(folder)) == whole
    writer = MatchLogWriter(folder, MatchLogOptions(segment_bytes=400))
    assert writer.next_seq == whole + 1
    writer.append(rows(b'"again"'))
    writer.close()
    assert seqs(read_all(folder)) == list(range(1, whole + 2))


def test_a_tail_that_was_cut_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, 6)
    path = segment_path(tmp_path, 1)
    os.truncate(path, path.stat().st_size - 5)
    writer = MatchLogWriter(tmp_path)
    assert writer.next_seq == 4
    assert writer.cut_bytes > 0
    assert "unfinished behind row 3: cut off" in caplog.text
    writer.close()


def test_an_open_reader_goes_on_when_the_tail_is_cut_and_written_again(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    path = segment_path(tmp_path, 1)
    with path.open("ab") as file:
        file.write(b"OMB1 half a block")
    reader = MatchLogReader(tmp_path)
    assert seqs(reader.read(0, 100)) == [1, 2, 3, 4, 5, 6]
    assert reader.read(6, 100) == []
    assert reader.last_seq == 6
    fill(tmp_path, 3)
    assert seqs(reader.read(6, 100)) == [7, 8, 9]
    assert reader.last_seq == 9
    reader.close()


def read_while_it_goes(reader: MatchLogReader, after: int = 0) -> int:
    """The last row before the log cannot be read."""
    with suppress(MatchLogError):
        while found := seqs(reader.read(after, 10)):
            assert found == list(range(after + 1, after + len(found) + 1))
            after = found[-1]
    return after


def spoil(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("at", [3, 20, HEAD_BYTES + 2, HEAD_BYTES + 10, HEAD_BYTES + 60, 300])
def test_damage_to_what_was_durable_is_refused_by_name(tmp_path: Path, at: int) -> None:
    writer = MatchLogWriter(tmp_path)
    for first in range(1, 60, 3):
        writer.append(numbered(first, 3))
    writer.sync()
    writer.append(numbered(61, 3))
    writer.close()
    spoil(segment_path(tmp_path, 1), at)
    with pytest.raises(MatchLogDamagedError, match=r"0001\.matches is damaged.*restore the file, or move"):
        MatchLogWriter(tmp_path)
    if at >= HEAD_BYTES:
        reader = MatchLogReader(tmp_path)
        found = read_while_it_goes(reader)
        with pytest.raises(MatchLogDamagedError, match=r"0001\.matches is damaged"):
            reader.read(found, 100)
        reader.close()


def test_damage_in_an_older_segment_is_met_by_its_readers(tmp_path: Path) -> None:
    fill(tmp_path, 90)
    spoil(segment_path(tmp_path, 1), 400)
    MatchLogWriter(tmp_path, SMALL).close()
    reader = MatchLogReader(tmp_path)
    assert seqs(reader.read(60, 5)) == [61, 62, 63, 64, 65]
    last = read_while_it_goes(reader)
    assert last == 6
    with pytest.raises(MatchLogDamagedError, match="no whole block at byte"):
        reader.read(last, 100)
    reader.close()


@pytest.mark.parametrize("spoiled", ["cut", "deleted"])
def test_durable_rows_that_are_missing_are_noticed(tmp_path: Path, spoiled: str) -> None:
    writer = MatchLogWriter(tmp_path)
    writer.append(numbered(1, 3))
    writer.append(numbered(4, 3))
    writer.sync()
    writer.close()
    path = segment_path(tmp_path, 1)
    if spoiled == "cut":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.unlink()
    with pytest.raises(MatchLogDamagedError, match="durable"):
        MatchLogWriter(tmp_path)


def test_a_log_of_a_later_release_is_refused(tmp_path: Path) -> None:
    import struct
    import zlib

    fill(tmp_path, 3)
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[8:10] = struct.pack("<H", 2)
    data[4:8] = struct.pack("<I", zlib.crc32(data[8:HEAD_BYTES]))
    path.write_bytes(data)
    with pytest.raises(MatchLogError, match="has format 2; this release reads formats 1 to 1"):
        MatchLogWriter(tmp_path)
    with pytest.raises(MatchLogError, match="has format 2"):
        read_all(tmp_path)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    writer = MatchLogWriter(tmp_path)
    with pytest.raises(MatchLogBusyError, match="another process writes"):
        MatchLogWriter(tmp_path)
    writer.close()
    MatchLogWriter(tmp_path).close()


def test_retention_by_size(tmp_path: Path) -> None:
    fill(tmp_path, 300, MatchLogOptions(segment_bytes=1_000, retain_bytes=3_000))
    reader = MatchLogReader(tmp_path)
    first = reader.first_seq
    assert 200 < first < 295
    assert sum(segment_path(tmp_path, base).stat().st_size for base in bases(tmp_path)) < 4_500
    assert reader.last_seq == 300
    with pytest.raises(MatchesGoneError, match=f"matches 1 to {first - 1} are not in the log any more") as gone:
        reader.read(0, 10)
    assert (gone.value.seq, gone.value.first_seq) == (1, first)
    assert seqs(reader.read(first - 1, 2)) == [first, first + 1]
    assert not [path for path in tmp_path.glob("*.index") if not path.with_suffix(".matches").exists()]
    reader.close()


def test_retention_by_age_and_by_hand(tmp_path: Path) -> None:
    options = MatchLogOptions(segment_ms=100, retain_ms=1_000, retain_bytes=None)
    writer = MatchLogWriter(tmp_path, options)
    for n in range(30):
        writer.append(rows(b"{}", at_ms=n * 100))
    assert len(bases(tmp_path)) == 12  # a segment goes when its last row is a second old
    assert writer.trim(2_900 + 500) == 5
    assert writer.trim(1_000_000) == 6
    assert bases(tmp_path) == [30]  # the last one stays
    writer.close()
    writer = MatchLogWriter(tmp_path, options)
    assert writer.next_seq == 31
    writer.close()


def test_a_reader_that_retention_overtakes_is_told(tmp_path: Path) -> None:
    writer = MatchLogWriter(tmp_path, MatchLogOptions(segment_bytes=1_000, retain_bytes=2_000))
    reader = MatchLogReader(tmp_path)
    writer.append(numbered(1, 3))
    assert seqs(reader.read(0, 1)) == [1]
    for first in range(4, 400, 3):
        writer.append(numbered(first, 3))
    seen = read_while_it_goes(reader, 1)
    with pytest.raises(MatchesGoneError) as gone:
        reader.read(seen, 10)
    assert reader.read(gone.value.first_seq - 1, 1)[0].seq == gone.value.first_seq
    reader.close()
    writer.close()


def test_a_gap_is_told_to_readers(tmp_path: Path) -> None:
    """A log that was lost is begun anew behind what may have been given out."""
    writer = MatchLogWriter(tmp_path)
    writer.append(numbered(1, 3))
    reader = MatchLogReader(tmp_path)
    assert seqs(reader.read(0, 10)) == [1, 2, 3]
    assert reader.last_seq == 3
    writer.begin_at(10)
    writer.append(numbered(10, 2))
    with pytest.raises(MatchesGoneError) as gone:
        reader.read(3, 10)
    assert (gone.value.seq, gone.value.first_seq) == (4, 10)
    assert seqs(reader.read(9, 10)) == [10, 11]
    assert reader.last_seq == 11
    with pytest.raises(ValueError, match="cannot go back"):
        writer.begin_at(5)
    reader.close()
    writer.close()
    writer = MatchLogWriter(tmp_path / "new", first_seq=77)
    assert writer.append(rows(b"{}")) == 77
    writer.close()


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    writer = MatchLogWriter(tmp_path)
    writer.append(numbered(1, 3))
    size = segment_path(tmp_path, 1).stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, limit[1]))
    try:
        with pytest.raises(MatchLogError, match="cannot write"):
            writer.append(numbered(4, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert segment_path(tmp_path, 1).stat().st_size == size
    assert writer.append(numbered(4, 3)) == 4
    assert [match.value for match in read_all(tmp_path)] == [b'{"n":%d}' % n for n in range(1, 7)]
    writer.close()


def test_no_room_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    writer = MatchLogWriter(tmp_path)
    inner: Callable[..., int] = os.write

    def full(file: int, data: bytes) -> int:
        inner(file, bytes(data)[:7])
        raise OSError(errno.ENOSPC, "No space left on device")

    writer.append(numbered(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(MatchLogFullError, match="No space left on device; free some space"):
            writer.append(numbered(2, 1))
    writer.append(numbered(2, 1))
    writer.close()
    assert len(read_all(tmp_path)) == 2


@pytest.mark.parametrize("nth", [1, 4, 9])
def test_kill_while_appending(tmp_path: Path, nth: int) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from ostinato.server.matches import *\nfrom tests.unit.server.test_matches_log import numbered, SMALL\n"
        "writer = MatchLogWriter(Path(sys.argv[1]), SMALL)\n"
        "for first in range(writer.next_seq, 31, 3):\n"
        "    writer.append(numbered(first, 3)); writer.sync()\n"
        "writer.close()\n"
    )
    codes = []
    for fault in (f"matches.append:{nth}=kill", f"matches.synced:{11 - nth}=kill", ""):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=Path(__file__).parents[3],
            env={**os.environ, VARIABLE: fault},
            timeout=60,
            check=False,
        )
        codes.append(done.returncode)
    assert codes[0] == -signal.SIGKILL
    assert codes[2] == 0
    assert [match.value for match in read_all(tmp_path)] == [b'{"n":%d}' % n for n in range(1, 31)]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Rows("s", "match", [("p", 1)], np.zeros(2, np.uint16), np.zeros(1, np.int64), 0, 0, [b"{}"]),
        lambda: Rows("s", "match", [("p", 1)], np.zeros(1, np.uint16), np.zeros(2, np.int64), 0, 0, [b"{}"]),
    ],
)
def test_rows_whose_columns_differ_are_refused(wrong: Callable[[], Rows]) -> None:
    with pytest.raises(ValueError, match="there is one of each for a row"):
        wrong()


def test_a_pattern_that_is_not_in_the_table_is_refused(tmp_path: Path) -> None:
    writer = MatchLogWriter(tmp_path)
    bad = Rows("s", "match", [("p", 1)], np.ones(1, np.uint16), np.zeros(1, np.int64), 0, 0, [b"{}"])
    with pytest.raises(ValueError, match="points behind the 1 patterns"):
        writer.append(bad)
    assert writer.next_seq == 1
    writer.close()
