"""Appending to the journal: groups, idempotency keys, limits, the full disk, retention, a reader that follows."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from ostinato.server.journal import (
    Appended,
    Entry,
    Journal,
    JournalBusyError,
    JournalClosedError,
    JournalError,
    JournalFailedError,
    JournalFullError,
    JournalLockedError,
    JournalOptions,
    JournalReader,
    JournalTrimmedError,
)
from ostinato.server.journal.segments import write_durably

WRITE = "ostinato.server.journal.writer.write_durably"
LINE = b'{"n":1}\n'


class Gate:
    """Holds the journal's writes back, so that a test decides what a group is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self.waiting = threading.Event()

        def write(fd: int, data: bytes, offset: int) -> None:
            self.waiting.set()
            assert self._open.wait(10)
            write_durably(fd, data, offset)

        monkeypatch.setattr(WRITE, write)

    def hold_with(self, journal: Journal) -> Future[Appended]:
        """An append that is on its way to the disk until `release`."""
        first = journal.append("first", LINE, 1)
        assert self.waiting.wait(10)
        return first

    def release(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def everything(folder: Path, until: int, position: int = 0) -> list[Entry]:
    with JournalReader(folder, position) as reader:
        found: list[Entry] = []
        while some := reader.read(until):
            found += some
        return found


def test_what_comes_while_a_group_is_written_is_the_next_group(tmp_path: Path, gate: Gate) -> None:
    with Journal(tmp_path) as journal:
        first = gate.hold_with(journal)
        others = [journal.append("s", b'{"n":%d}\n' % number, 1) for number in range(50)]
        assert not first.done()
        gate.release()
        results = [future.result(10) for future in others]
        assert journal.status().groups == 2
        # neighbours of one stream and lane are one record, each with a result of its own
        assert {(result.position, result.next) for result in results} == {(first.result().next, journal.durable)}
        assert {result.rows for result in results} == {1}
        entry = everything(tmp_path, journal.durable)[1]
        assert entry.rows == 50
        assert entry.data == b"".join(b'{"n":%d}\n' % number for number in range(50))


def test_only_neighbours_of_one_stream_and_lane_are_joined(tmp_path: Path, gate: Gate) -> None:
    with Journal(tmp_path) as journal:
        gate.hold_with(journal)
        journal.append("a", LINE, 1)
        journal.append("a", LINE, 1)
        journal.append("a", LINE, 1, lane="file:x", place={"at": 1})
        journal.append("a", LINE, 1, lane="file:x", place={"at": 2})
        journal.append("b", LINE, 1)
        journal.tick()
        last = journal.append("b", LINE, 1)
        gate.release()
        last.result(10)
        entries = everything(tmp_path, journal.durable)[1:]
    assert [(entry.stream, entry.lane, entry.rows, entry.place) for entry in entries] == [
        ("a", "", 2, None),
        ("a", "file:x", 2, {"at": 2}),
        ("b", "", 1, None),
        ("", "", 0, None),
        ("b", "", 1, None),
    ]


def test_records_and_groups_are_bounded(tmp_path: Path, gate: Gate) -> None:
    options = JournalOptions(record_bytes=3 * len(LINE), group_bytes=6 * len(LINE))
    with Journal(tmp_path, options) as journal:
        gate.hold_with(journal)
        futures = [journal.append("s", LINE, 1) for _ in range(10)]
        futures.append(journal.append("s", LINE * 100, 100))
        gate.release()
        for future in futures:
            future.result(10)
        assert journal.status().groups == 4
        assert [entry.rows for entry in everything(tmp_path, journal.durable)[1:]] == [3, 3, 3, 1, 100]


def test_a_key_gives_the_first_answer_again(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        first = journal.append("s", LINE, 1, key=b"one").result()
        again = journal.append("s", LINE, 1, key=b"one").result()
        assert again == Appended(first.position, first.next, 1, duplicate=True)
        assert not journal.append("s", LINE, 1, key=b"two").result().duplicate
        assert not journal.append("t", LINE, 1, key=b"one").result().duplicate, "keys are of a stream"
        assert journal.append("s", LINE * 2, 2, key=b"one").result().differs
    with Journal(tmp_path) as journal:
        assert journal.append("s", LINE, 1, key=b"one").result() == again
        assert sum(entry.rows for entry in everything(tmp_path, journal.durable)) == 3


def test_a_key_that_is_under_way_waits_for_the_first_answer(tmp_path: Path, gate: Gate) -> None:
    with Journal(tmp_path) as journal:
        gate.hold_with(journal)
        first, second = (journal.append("s", LINE, 1, key=b"one") for _ in range(2))
        assert not second.done()
        gate.release()
        assert first.result(10).duplicate is False
        assert second.result(10) == Appended(first.result().position, first.result().next, 1, duplicate=True)


def test_keys_are_forgotten_after_the_window_and_beyond_the_most(tmp_path: Path) -> None:
    now = 1_000_000
    options = JournalOptions(key_window_ms=1000, max_keys=3)
    with Journal(tmp_path, options, clock=lambda: now) as journal:
        journal.append("s", LINE, 1, key=b"0").result()
        now += 999
        assert journal.append("s", LINE, 1, key=b"0").result().duplicate
        now += 2
        assert not journal.append("s", LINE, 1, key=b"0").result().duplicate
        for number in range(1, 4):
            journal.append("s", LINE, 1, key=b"%d" % number).result()
        assert journal.status().keys == 3
        assert not journal.append("s", LINE, 1, key=b"0").result().duplicate
        assert journal.append("s", LINE, 1, key=b"3").result().duplicate


def test_times_do_not_go_back(tmp_path: Path) -> None:
    now = 5_000
    with Journal(tmp_path, clock=lambda: now) as journal:
        journal.tick().result()
        now = 4_000
        journal.tick().result()
    now = 3_000
    with Journal(tmp_path, clock=lambda: now) as journal:
        journal.tick().result()
        assert [entry.time_ms for entry in everything(tmp_path, journal.durable)] == [5_000] * 3


def test_places_are_known_after_a_restart_also_when_their_segments_are_gone(tmp_path: Path) -> None:
    with Journal(tmp_path, JournalOptions(segment_bytes=200)) as journal:
        journal.append("s", LINE, 1, lane="kafka:t/0", place={"offset": 5}).result()
        # nothing of these records could be used, but the feeder goes on behind them
        journal.append("s", b"", 0, lane="kafka:t/1", place={"offset": 7}).result()
        for _ in range(20):
            journal.append("s", LINE, 1, key=b"last").result()
            journal.append("s", LINE, 1).result()
        assert journal.trim(journal.durable) > 0
        expected = {("s", "kafka:t/0"): {"offset": 5}, ("s", "kafka:t/1"): {"offset": 7}}
        assert journal.places() == expected
    with Journal(tmp_path) as journal:
        assert journal.places() == expected
        assert journal.append("s", LINE, 1, key=b"last").result().duplicate, "keys outlive their segments"


def test_hooks_are_told_before_the_futures_are_done(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        told: list[tuple[int, bool]] = []
        futures: list[Future[Appended]] = []
        ready = threading.Event()

        def hook(position: int) -> None:
            ready.wait(10)
            told.append((position, futures[0].done()))

        def broken(position: int) -> None:
            raise RuntimeError("a hook that fails")

        journal.on_durable += [broken, hook]
        futures.append(journal.append("s", LINE, 1))
        ready.set()
        end = futures[0].result(10).next
        assert told == [(end, False)]
        assert not journal.tick().result(10).duplicate, "a hook that fails takes nobody with it"


def test_an_event_loop_is_answered(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:

        async def append() -> list[Appended]:
            futures = [journal.append_async("s", LINE, 1, key=b"%d" % (number % 50)) for number in range(100)]
            gone = journal.append_async("s", LINE, 1)
            gone.cancel()
            return await asyncio.gather(*futures)

        results = asyncio.run(append())
        assert [result.duplicate for result in results] == [False] * 50 + [True] * 50
        assert journal.tick().result(10)
        assert journal.status().rows == 51, "who cancels does not take back what is on its way"


def test_a_loop_that_has_ended_does_no_harm(tmp_path: Path, gate: Gate) -> None:
    with Journal(tmp_path) as journal:
        gate.hold_with(journal)

        async def append() -> None:
            journal.append_async("s", LINE, 1)

        asyncio.run(append())
        gate.release()
        journal.tick().result(10)
        assert journal.status().rows == 2


def test_too_much_that_waits_is_refused_or_waited_for(tmp_path: Path, gate: Gate) -> None:
    with Journal(tmp_path, JournalOptions(queue_bytes=4_000)) as journal:
        gate.hold_with(journal)
        futures = [journal.append("s", LINE, 1) for _ in range(5)]
        refused = None
        while refused is None:
            try:
                futures.append(journal.append("s", LINE, 1, key=b"%d" % len(futures)))
            except JournalBusyError as error:
                refused = error
        assert "try again in a second" in str(refused)
        assert refused.retry_after_s > 0
        began = time.monotonic()
        with pytest.raises(JournalBusyError):
            journal.append("s", LINE, 1, wait=0.05)
        assert time.monotonic() - began >= 0.05
        threading.Timer(0.05, gate.release).start()
        # also one that is larger than all that may wait, once nothing does
        large = journal.append("s", LINE * 1_000, 1_000, wait=10)
        assert large.result(10).rows == 1_000
        assert journal.status().rows == 1_001 + len(futures)
        assert journal.status().refused_busy == 2
        assert journal.status().waiting_bytes == 0


def test_appends_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, pytest.raises(ValueError, match="must end with a line feed"):
        journal.append("s", b"{}", 1)
    with pytest.raises(JournalClosedError):
        journal.append("s", LINE, 1)
    journal.close()


def test_what_waits_is_written_before_it_is_closed(tmp_path: Path, gate: Gate) -> None:
    journal = Journal(tmp_path)
    gate.hold_with(journal)
    futures = [journal.append("s", LINE, 1) for _ in range(10)]
    threading.Timer(0.05, gate.release).start()
    journal.close()
    assert all(future.result(0) for future in futures)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from ostinato.server.journal import Journal, JournalLockedError
try:
    Journal(Path({str(tmp_path)!r}))
except JournalLockedError as error:
    print(error)
"""
    with Journal(tmp_path):
        with pytest.raises(JournalLockedError, match=f"process {os.getpid()} has the journal"):
            Journal(tmp_path)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
        assert f"process {os.getpid()} has the journal" in done.stdout
    with Journal(tmp_path):
        pass


def limited(code: str, folder: Path, size: int) -> str:
    """Run code in a process that may not write files larger than `size`, as on a disk that is full."""
    prelude = f"""
import resource, signal
from pathlib import Path
from ostinato.server.journal import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
folder = Path({str(folder)!r})
LINE = {LINE!r}
limit({size})
"""
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_refuses_appends_until_there_is_room(tmp_path: Path) -> None:
    """The limit on a file's size cuts a write short and then fails it, as a full disk does."""
    said = limited(
        """
with Journal(folder) as journal:
    kept = []
    while True:
        try:
            kept.append(journal.append("s", LINE * 10, 10, key=b"%d" % len(kept)).result())
        except JournalFullError as error:
            full = error
            break
    size = (folder / "00000000000000000000.log").stat().st_size
    assert size < 4096, "cut back to what is durable"
    try:
        journal.append("s", LINE * 10, 10, key=b"%d" % len(kept)).result()
    except JournalFullError:
        print("still full")
    limit(resource.RLIM_INFINITY)
    again = journal.append("s", LINE * 10, 10, key=b"%d" % len(kept)).result()
    assert not again.duplicate and again.position == kept[-1].next, again
    status = journal.status()
    print(status.refused_full, status.failure, status.rows == 10 * (len(kept) + 1))
    print(full)
    with JournalReader(folder) as reader:
        print(sum(entry.rows for entry in reader.read(journal.durable)) == status.rows)
""",
        tmp_path,
        4096,
    ).splitlines()
    assert said[0] == "still full"
    assert said[1] == "2 None True"
    assert "Make room on the disk and send it again" in said[2]
    assert said[3] == "True"
    with Journal(tmp_path) as journal:
        assert journal.mended == []


def test_no_room_for_another_segment_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path, JournalOptions(segment_bytes=10)) as journal:
        journal.append("s", LINE, 1).result()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _raising(errno.ENOSPC))
            with pytest.raises(JournalFullError):
                journal.append("s", LINE, 1, key=b"one").result()
        assert not list(tmp_path.glob("*.new"))
        assert not journal.append("s", LINE, 1, key=b"one").result().duplicate
        assert len(everything(tmp_path, journal.durable)) == 2
        assert len(list(tmp_path.glob("*.log"))) == 2


def test_a_disk_that_fails_ends_the_journal_and_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append("s", LINE, 1).result()
    with monkeypatch.context() as patch:
        patch.setattr(WRITE, _raising(errno.EIO))
        first = journal.append("s", LINE, 1, key=b"one")
        with pytest.raises(JournalFailedError, match="start the server again"):
            first.result(10)
    with pytest.raises(JournalFailedError):
        journal.append("s", LINE, 1)
    assert "Input/output error" in str(journal.status().failure)
    journal.close()
    with Journal(tmp_path) as journal:
        assert journal.append("s", LINE, 1).result()


def _raising(number: int) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, None])
def test_where_writes_cannot_be_durable_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        synced.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    if number is None:
        monkeypatch.delattr(os, "RWF_DSYNC", raising=False)
    else:
        monkeypatch.setattr(os, "pwritev", _raising(number))
    with Journal(tmp_path) as journal:
        journal.append("s", LINE, 1).result()
        assert len(synced) == 1
        assert len(everything(tmp_path, journal.durable)) == 1


def test_a_reader_follows_the_writer_across_segments(tmp_path: Path) -> None:
    options = JournalOptions(segment_bytes=500, record_bytes=100, group_bytes=200)
    count = 400
    with Journal(tmp_path, options) as journal, JournalReader(tmp_path) as reader:
        durable = threading.Event()
        journal.on_durable.append(lambda _: durable.set())

        def append() -> None:
            for number in range(count):
                journal.append("s", b'{"n":%d}\n' % number, 1, wait=10)

        thread = threading.Thread(target=append)
        thread.start()
        lines: list[bytes] = []
        while len(lines) < count:
            assert durable.wait(10)
            durable.clear()
            while entries := reader.read(journal.durable, max_bytes=1_000):
                for entry in entries:
                    lines += entry.data.splitlines()
        thread.join()
        assert lines == [b'{"n":%d}' % number for number in range(count)]
        assert len(list(tmp_path.glob("*.log"))) > 5
        assert reader.read(journal.durable) == []


def test_a_reader_reads_no_further_than_it_is_told_and_not_much_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        ends = [journal.append("s", LINE * 20_000, 20_000).result().next for _ in range(4)]
        with JournalReader(tmp_path) as reader:
            assert reader.read(0) == []
            assert [entry.next for entry in reader.read(ends[1])] == ends[:2]
            assert reader.read(ends[1]) == []
            assert [entry.next for entry in reader.read(ends[3], max_bytes=1)] == [ends[2]]
            assert reader.position == ends[2]
            reader.seek(ends[0])
            assert len(reader.read(ends[3])) == 3


def test_trimming_drops_whole_segments_before_a_position(tmp_path: Path) -> None:
    with Journal(tmp_path, JournalOptions(segment_bytes=200)) as journal:
        for number in range(30):
            journal.append("s", LINE, 1, key=b"%d" % number).result()
        entries = everything(tmp_path, journal.durable)
        middle = entries[15].position
        first = journal.trim(middle)
        assert 0 < first <= middle
        assert journal.first == first == journal.status().first
        assert everything(tmp_path, journal.durable, first) == [entry for entry in entries if entry.position >= first]
        with (
            JournalReader(tmp_path) as reader,
            pytest.raises(JournalTrimmedError, match="is not held any more") as gone,
        ):
            reader.read(journal.durable)
        assert gone.value.first == first
        assert journal.trim(middle) == first
        # the last segment stays
        assert 0 < journal.trim(journal.durable + 1_000) <= journal.durable
    with Journal(tmp_path) as journal:
        assert journal.durable == entries[-1].next, "positions are never used again"
        assert all(journal.append("s", LINE, 1, key=b"%d" % number).result().duplicate for number in range(30))


def test_retention_keeps_what_is_young_or_little(tmp_path: Path) -> None:
    now = 1_000_000
    options = JournalOptions(segment_bytes=200, retain_ms=1_000, key_window_ms=5_000)
    with Journal(tmp_path, options, clock=lambda: now) as journal:
        for number in range(20):
            now += 100
            journal.append("s", LINE, 1, key=b"%d" % number).result()
        assert journal.retain(0) == 0, "what a reader still needs is kept"
        first = journal.retain(journal.durable)
        kept = everything(tmp_path, journal.durable, first)
        assert first > 0
        assert all(entry.time_ms >= now - 1_300 for entry in kept)
        assert sum(entry.time_ms >= now - 1_000 for entry in kept) == 11
        now += 10_000
        journal.retain(journal.durable)
        # the keys have aged out, and so the indexes of what is dropped
        assert len(list(tmp_path.glob("*.log"))) == 1
        assert list(tmp_path.glob("*.index")) == []
    with Journal(tmp_path, JournalOptions(segment_bytes=200, retain_ms=None, retain_bytes=500)) as journal:
        for _ in range(20):
            journal.append("s", LINE, 1).result()
        journal.retain(journal.durable)
        assert 500 <= journal.status().bytes < 900


def test_an_index_that_is_missing_or_damaged_is_made_again(tmp_path: Path) -> None:
    with Journal(tmp_path, JournalOptions(segment_bytes=200)) as journal:
        for number in range(10):
            journal.append("s", LINE, 1, key=b"%d" % number, lane="file:x", place={"at": number}).result()
    indexes = sorted(tmp_path.glob("*.index"))
    assert len(indexes) > 3
    indexes[0].unlink()
    indexes[1].write_bytes(b"what is this")
    for _ in range(2):
        with Journal(tmp_path) as journal:
            assert journal.places() == {("s", "file:x"): {"at": 9}}
            assert all(journal.append("s", LINE, 1, key=b"%d" % number).result().duplicate for number in range(10))
    assert journal.mended == []


def test_many_threads_at_once(tmp_path: Path) -> None:
    """Every key is sent by two threads: each is there once, and both are told the same."""
    told: dict[bytes, list[Appended]] = {}
    lock = threading.Lock()
    with Journal(tmp_path, JournalOptions(segment_bytes=5_000, queue_bytes=20_000)) as journal:

        def append(offset: int) -> None:
            for number in range(300):
                key = b"%d" % (number + offset)
                try:
                    future = journal.append("s", b'{"key":%s}\n' % key, 1, key=key, wait=10)
                except JournalError as error:
                    raise AssertionError from error
                with lock:
                    told.setdefault(key, []).append(future.result(10))

        threads = [threading.Thread(target=append, args=(offset,)) for offset in (0, 0, 200, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = b"".join(entry.data for entry in everything(tmp_path, journal.durable)).splitlines()
    assert sorted(lines) == sorted(b'{"key":%s}' % key for key in told)
    assert all(len({(each.position, each.next) for each in results}) == 1 for results in told.values())
    assert all(sum(not each.duplicate for each in results) == 1 for results in told.values())
