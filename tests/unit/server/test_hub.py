"""Followers of matches: everyone gets all, in order; who does not read costs the others nothing."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ostinato.server.delivery import hub as module
from ostinato.server.delivery.encoding import SSE, WEBSOCKET, Encoding, match_json
from ostinato.server.delivery.hub import Hub, HubOptions
from ostinato.server.matches import (
    EVERYTHING,
    Filter,
    Kind,
    Match,
    MatchLogDamagedError,
    MatchLogOptions,
    MatchLogWriter,
    Rows,
)
from ostinato.server.matches.format import segment_path

Event = tuple[int, str, dict[str, Any]]


class Log:
    """A writer that tells the hub."""

    def __init__(self, folder: Path, options: MatchLogOptions | None = None) -> None:
        self.writer = MatchLogWriter(folder, options)
        self.hub: Hub | None = None

    def add(
        self, count: int = 1, stream: str = "alerts", kind: Kind = "match", pattern: str = "p", pad: int = 0
    ) -> None:
        first = self.writer.next_seq
        values = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * pad) for n in range(first, first + count)]
        zeros = np.zeros(count, np.int64)
        self.writer.append(Rows(stream, kind, [(pattern, 1)], zeros.astype(np.uint16), zeros, 0, 0, values))
        if self.hub is not None:
            self.hub.grown(self.writer.next_seq - 1)


@asynccontextmanager
async def running(folder: Path, log: Log, options: HubOptions | None = None) -> AsyncIterator[Hub]:
    hub = log.hub = Hub(folder, "srv", options)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.close()
        log.writer.close()


def parse(chunk: bytes) -> list[Event]:
    """As a browser does it: (id, event, data) of each event."""
    found = []
    for block in chunk.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def take(chunks: AsyncIterator[bytes], last: int) -> list[Event]:
    """The events up to the one with this id."""
    events: list[Event] = []
    async with asyncio.timeout(20):
        async for chunk in chunks:
            events += parse(chunk)
            if events and events[-1][0] >= last:
                return events
    raise AssertionError("it ended")


async def raw(chunks: AsyncIterator[bytes], last: int) -> bytes:
    """The same, as it comes."""
    parts = []
    async with asyncio.timeout(20):
        async for chunk in chunks:
            parts.append(chunk)
            if b"id: %d\n" % last in chunk:
                return b"".join(parts)
    raise AssertionError("it ended")


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(cast("Any", test()))


def test_the_json_of_a_match() -> None:
    match = Match(7, 'a"b', "dead letter", "", 0, 12, 34, 56, b'{"a":\n"x\\n"}')
    assert json.loads(match_json("m", match)) == {
        "id": "m-7", "seq": 7, "pattern": "", "version": 0, "stream": 'a"b', "kind": "dead letter", "time": 12,
        "at": 56, "row": {"a": "x\n"},
    }  # fmt: skip
    assert b"\n" not in match_json("m", match)
    assert json.loads(match_json('m"1', match))["id"] == 'm"1-7'
    assert parse(SSE.one(match, match_json("m", match)))[0][:2] == (7, "dead-letter")


def test_what_comes_and_what_was_there(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        log.add(3)
        async with running(tmp_path, log) as hub:
            now, then = hub.follow(), hub.follow(after=1)
            async with aclosing(now), aclosing(then):
                assert [seq for seq, _, _ in await take(then, 3)] == [2, 3]
                waiting = asyncio.create_task(take(now, 6))
                await asyncio.sleep(0.02)
                log.add(2)
                log.add(1, kind="timeout")
                events = await waiting
                assert [(seq, event) for seq, event, _ in events] == [(4, "match"), (5, "match"), (6, "timeout")]
                assert events[0][2] == {
                    "id": "srv-4", "seq": 4, "pattern": "p", "version": 1, "stream": "alerts", "kind": "match",
                    "time": 0, "at": 0, "row": {"n": 4, "pad": ""},
                }  # fmt: skip
                assert [seq for seq, _, _ in await take(then, 6)] == [4, 5, 6]
                assert hub.counts.followers == 2
            assert hub.counts.followers == 0

    run(body)


def test_filters(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        async with running(tmp_path, log) as hub:
            wanted = [
                Filter(streams=frozenset({"b"})),
                Filter(patterns=frozenset({"q"})),
                Filter(kinds=frozenset({"timeout"})),
                EVERYTHING,
            ]

            async def fill() -> None:
                log.add(2, "a", "match", "p")
                await asyncio.sleep(0.05)  # a batch without any of some
                log.add(2, "b", "match", "p")
                log.add(2, "b", "timeout", "q")

            for late in (False, True):
                chunks = [hub.follow(each, after=0) for each in wanted]
                tasks = [asyncio.create_task(take(each, 6)) for each in chunks]
                if not late:
                    await asyncio.sleep(0.02)
                    await fill()
                found = [[seq for seq, _, _ in await task] for task in tasks]
                assert found == [[3, 4, 5, 6], [5, 6], [5, 6], [1, 2, 3, 4, 5, 6]]
                for each in chunks:
                    await each.aclose()

    run(body)


def test_heartbeats_move_the_cursor_on(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        async with running(tmp_path, log, HubOptions(heartbeat_seconds=0.05)) as hub:
            wanted = Filter(streams=frozenset({"other"}))
            async with (
                aclosing(hub.follow(wanted)) as chunks,
                aclosing(hub.follow(wanted, encoding=WEBSOCKET)) as messages,
            ):
                assert await anext(chunks) == b":\nid: 0\n\n"
                log.add(5)
                for _ in range(3):
                    beat = await anext(chunks)
                assert beat == b":\nid: 5\n\n"
                assert json.loads(await anext(messages)) == [{"kind": "heartbeat", "seq": 5}]
                assert parse(beat) == []

    run(body)


def test_websocket_messages(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        log.add(3)
        async with running(tmp_path, log) as hub, aclosing(hub.follow(after=0, encoding=WEBSOCKET)) as messages:
            assert [each["seq"] for each in json.loads(await anext(messages))] == [1, 2, 3]
            assert json.loads(WEBSOCKET.lost(3, 9)) == [{"kind": "lost", "from": 3, "to": 9}]

    run(body)


class Counting:
    """Counts how often a match is encoded."""

    def __init__(self) -> None:
        self.ones = self.chunks = 0

    def one(self, match: Match, document: bytes, /) -> bytes:
        self.ones += 1
        return SSE.one(match, document)

    def chunk(self, encoded: Any) -> bytes:
        self.chunks += 1
        return SSE.chunk(encoded)

    def lost(self, first: int, last: int) -> bytes:
        return SSE.lost(first, last)

    def heartbeat(self, seq: int) -> bytes:
        return SSE.heartbeat(seq)


def test_500_followers_of_whom_some_never_read(tmp_path: Path) -> None:
    """Those who read have everything within moments, each match is encoded once, and those who do not read hold next to
    nothing; when they read at last, they get all of it."""

    async def body() -> None:
        log = Log(tmp_path)
        encoding: Encoding = Counting()
        async with running(tmp_path, log, HubOptions(queue_bytes=20_000)) as hub:
            count, batches = 1_000, 50
            slow = [hub.follow(after=None, encoding=encoding) for _ in range(100)]
            first = [asyncio.ensure_future(anext(each)) for each in slow]
            readers = [asyncio.create_task(raw(hub.follow(encoding=encoding), count)) for _ in range(400)]
            await asyncio.sleep(0.05)
            began = time.perf_counter()
            for _ in range(batches):
                log.add(count // batches, pad=300)
                await asyncio.sleep(0.002)
            given = await asyncio.gather(*readers)
            assert time.perf_counter() - began < 10
            assert [seq for seq, _, _ in parse(given[0])] == list(range(1, count + 1))
            assert set(given) == {given[0]}
            assert encoding.ones == count  # type: ignore[attr-defined]
            assert hub.counts.behind == 100
            for follower in hub._followers:
                assert follower.queued_bytes < 20_000 + module._BATCH_BYTES * 2
            # what was skipped is read from the log
            log.add(5)
            for task, chunks in list(zip(first, slow, strict=True))[:10]:
                got = parse(await task)
                got += await take(chunks, count + 5)
                assert [seq for seq, _, _ in got] == list(range(1, count + 6))
            # and then it is one of those who keep up
            log.add(1)
            assert [seq for seq, _, _ in await take(slow[0], count + 6)] == [count + 6]
            assert hub.counts.behind == 90
            assert hub.counts.lost == 0
            for task in first[10:]:
                await task

    run(body)


def test_what_retention_has_deleted_is_said(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path, MatchLogOptions(segment_bytes=2_000, retain_bytes=6_000))
        async with running(tmp_path, log, HubOptions(queue_bytes=500)) as hub:
            slow = hub.follow()
            got = asyncio.ensure_future(anext(slow))
            await asyncio.sleep(0.02)
            for _ in range(200):
                log.add(2, pad=50)
                await asyncio.sleep(0.0005)
            events = parse(await got) + await take(slow, 400)
            seen = 0
            lost = 0
            for seq, event, data in events:
                if event == "lost":
                    assert data == {"from": seen + 1, "to": seq}
                    lost += seq - seen
                else:
                    assert seq == seen + 1
                seen = seq
            assert seen == 400
            assert lost > 100
            assert hub.counts.lost == lost
            # whoever begins with what is gone is told as well
            async with aclosing(hub.follow(after=0)) as late:
                (seq, event, data), *_ = parse(await anext(late))
                assert (event, data["from"]) == ("lost", 1)
                assert (await take(late, 400))[0][0] == seq + 1
            await slow.aclose()

    run(body)


def test_a_gap_in_the_log_is_said_to_those_who_keep_up(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        log.add(3)
        async with running(tmp_path, log) as hub, aclosing(hub.follow()) as chunks:
            task = asyncio.ensure_future(take(chunks, 10))
            await asyncio.sleep(0.02)
            log.writer.begin_at(10)
            log.add(1)
            assert [(seq, event) for seq, event, _ in await task] == [(9, "lost"), (10, "match")]

    run(body)


def test_one_who_is_ahead_of_the_hub_gets_nothing_twice(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        async with running(tmp_path, log) as hub, aclosing(hub.follow(after=5)) as chunks:
            task = asyncio.ensure_future(take(chunks, 8))
            for _ in range(8):
                log.add(1)
                await asyncio.sleep(0.01)
            assert [seq for seq, _, _ in await task] == [6, 7, 8]

    run(body)


def test_a_follower_that_is_cancelled_is_forgotten(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        async with running(tmp_path, log) as hub:
            tasks = [asyncio.create_task(take(hub.follow(), 1)) for _ in range(20)]
            await asyncio.sleep(0.02)
            assert hub.counts.followers == 20
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert hub.counts.followers == 0
            assert not hub._groups

    run(body)


def test_closing_ends_followers(tmp_path: Path) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        async with running(tmp_path, log) as hub:

            async def all_of() -> int:
                return len([chunk async for chunk in hub.follow()])

            task = asyncio.create_task(all_of())
            await asyncio.sleep(0.02)
            await hub.close()
            assert await asyncio.wait_for(task, 5) == 0

    run(body)


def test_a_damaged_log_is_said_and_does_not_end_the_hub(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        log = Log(tmp_path)
        log.add(2)
        async with running(tmp_path, log) as hub:
            log.add(2, pad=300)
            log.writer.sync()
            for _ in range(100):
                if hub.at == 4:
                    break
                await asyncio.sleep(0.01)
            path = segment_path(tmp_path, 1)
            data = bytearray(path.read_bytes())
            data[-100] ^= 1
            path.write_bytes(data)
            chunks = hub.follow(after=2)
            with pytest.raises(MatchLogDamagedError):
                await anext(chunks)
            assert hub.counts.error is None
            assert hub._task is not None
            assert not hub._task.done()

    run(body)


def test_memory_of_those_who_do_not_read(tmp_path: Path) -> None:
    """The same bytes are in all queues."""
    import tracemalloc

    async def body() -> None:
        log = Log(tmp_path)
        async with running(tmp_path, log, HubOptions(queue_bytes=100_000)) as hub:
            slow = [hub.follow() for _ in range(300)]
            first = [asyncio.ensure_future(anext(each)) for each in slow]
            await asyncio.sleep(0.05)
            tracemalloc.start()
            for _ in range(50):
                log.add(20, pad=200)
                await asyncio.sleep(0.005)
            await asyncio.gather(*first)
            size, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert size < 300 * 20_000

    assert threading.active_count() < 50
    run(body)
