"""Patterns over stored events, beside the live ones, with real processes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ostinato.server.backtest.history import over_journal, over_sources
from ostinato.server.backtest.inputs import inputs_of
from ostinato.server.backtest.planning import plan_sides
from ostinato.server.backtest.service import Backtests
from ostinato.server.backtest.spec import BacktestSpec, Input
from ostinato.server.catalog import Catalog, Role
from ostinato.server.catalog.definitions import Body, Definitions
from ostinato.server.changes.model import Author
from ostinato.server.changes.service import Changes
from ostinato.server.config import FilesSection, KafkaSection, ServerConfig, ServerSection
from ostinato.server.failures import NotAllowedError, NotThereError, RefusedError
from ostinato.server.http.caller import Caller
from ostinato.server.http.schemas.jobs import BacktestInfo, BacktestRequest, BacktestSource
from ostinato.server.journal import Journal, JournalOptions
from ostinato.server.live.generation import Generation
from ostinato.server.live.process import Live
from ostinato.server.live.spec import WorkerSpec
from ostinato.server.matches import MatchLogReader, Rows
from ostinato.server.submitted.folders import Folders

pytestmark = pytest.mark.anyio

CALLER = Caller("ann", Role.AUTHOR)
STREAM = "stream events (k string key, ts timestamp(ms) time delay 2 s, v int)"
PATTERNS = """
pattern rise on events match a -> b define a as v > {least}, b as v = 0 within 1 min
  emit k, a.v as v into rises timeouts into slow
pattern twice on rises match x -> y within 2 min emit k, x.v as first, y.v as second into pairs
"""
COUNT = 2_000


class Kept:
    """A side that keeps the rows."""

    def __init__(self) -> None:
        self.next_seq = 0
        self.rows: Counter[tuple[str, str]] = Counter()

    def append(self, rows: Rows) -> int:
        for value in rows.values:
            if rows.kind in ("match", "timeout"):
                self.rows[rows.stream, value.decode()] += 1
        return 0


def events(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"k": f"k{n * 7919 % 13}", "ts": 700 * n - n % 3 * 900, "v": n * 31 % 11} for n in range(count)]


def lines(some: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in some)


def expected(folder: Path, text: str) -> Counter[tuple[str, str]]:
    """What `ostinato run` makes of the events."""
    (folder / "events.jsonl").write_bytes(lines(events()))
    (folder / "program.cep").write_text(f"{STREAM} from file 'events.jsonl'\n{text}")
    outputs = [f"--output={name}={name}.jsonl" for name in ("rises", "slow", "pairs")]
    command = [sys.executable, "-m", "ostinato.server.cli", "run", "program.cep", *outputs]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return Counter(
        (name, line)
        for name in ("rises", "slow", "pairs")
        for line in (folder / f"{name}.jsonl").read_text().splitlines()
    )


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop of the server."""
    return "asyncio", {"use_uvloop": True}


class Rig:
    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.files = folder / "in"
        self.data.mkdir()
        self.files.mkdir()
        self.config = ServerConfig(server=ServerSection(workers=1), files=FilesSection((str(self.files),)))

    @asynccontextmanager
    async def server(self) -> AsyncIterator[tuple[Changes, Backtests, Journal, Live]]:
        """All that takes part: the journal, the live worker with its patterns, and backtests."""
        snapshots = self.data / "checkpoints"
        with Catalog(self.data) as catalog:
            journal = Journal(self.data / "journal", JournalOptions())
            live = Live(WorkerSpec(str(self.data), str(snapshots), 10_000))
            journal.on_durable.append(live.journal_grew)
            live.journal_grew(journal.durable)
            changes = Changes(catalog.definitions, journal, live)
            await live.start()
            backtests = Backtests(
                self.data,
                catalog.backtests,
                catalog.database,
                self.config,
                body=lambda: changes.body,
                durable=lambda: journal.durable,
            )
            await backtests.open()
            try:
                yield changes, backtests, journal, live
            finally:
                await backtests.close()
                await live.stop()
                journal.close()


async def ended(backtests: Backtests, info: BacktestInfo, seconds: float = 30.0) -> BacktestInfo:
    return await until(backtests, info.id, lambda found: found.state not in ("QUEUED", "RUNNING"), seconds)


async def until(
    backtests: Backtests, name: str, holds: Callable[[BacktestInfo], bool], seconds: float = 30.0
) -> BacktestInfo:
    deadline = time.monotonic() + seconds
    while not holds(info := await backtests.get(name)):
        assert time.monotonic() < deadline, info
        await asyncio.sleep(0.02)
    return info


def fingerprint(folder: Path) -> dict[str, str]:
    """What is in the files of the live job."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("journal", "matches", "checkpoints")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


def test_over_the_journal_it_finds_what_a_run_over_the_events_finds(tmp_path: Path) -> None:
    text = PATTERNS.format(least=4)
    wanted = expected(tmp_path, text)
    journal = Journal(tmp_path / "journal", JournalOptions())
    try:
        every = events()
        for first in range(0, COUNT, 150):
            part = every[first : first + 150]
            journal.append("events", lines(part), len(part)).result()
        sides = plan_sides(f"{STREAM}\n{text}", {}, Body(Definitions(), Generation(0)), compare=True)
        spec = BacktestSpec(sides.here, None, sides.patterns, str(tmp_path / "journal"), 0, journal.durable)
        kept, portions = Kept(), list[float]()
        assert over_journal(spec, [(sides.here, kept)], lambda part, _: portions.append(part)) == COUNT
    finally:
        journal.close()
    assert kept.rows == wanted
    assert len(wanted) > 500
    assert {stream for stream, _ in wanted} == {"rises", "slow", "pairs"}
    assert portions[-1] == 1.0


def test_over_files_it_finds_what_a_run_over_them_finds(tmp_path: Path) -> None:
    text = PATTERNS.format(least=4)
    wanted = expected(tmp_path, text)
    sides = plan_sides(f"{STREAM}\n{text}", {}, Body(Definitions(), Generation(0)), compare=True)
    inputs = {"events": Input("file", str(tmp_path / "events.jsonl"))}
    spec = BacktestSpec(sides.here, None, sides.patterns, inputs=inputs)
    kept = Kept()
    assert over_sources(spec, [(sides.here, kept)], lambda *_: None) == COUNT
    assert kept.rows == wanted
    half = BacktestSpec(sides.here, None, sides.patterns, inputs=inputs, from_ms=0, to_ms=700_000)
    there = [each for each in events() if 0 <= each["ts"] < 700_000]
    assert over_sources(half, [(sides.here, Kept())], lambda *_: None) == len(there)


def test_files_are_read_as_the_stream_declares_them(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("k;ts;v\n" + "".join(f"k{n % 2};{n:02}/01/2026;{n % 4}\n" for n in range(1, 29)))
    text = (
        "stream events (k string key, ts timestamp('%d/%m/%Y') time, v int) "
        f"from file '{path}' (delimiter = ';')\n"
        "pattern rise on events match a -> b define a as v = 1, b as v = 3 within 3 d emit k into rises"
    )
    (tmp_path / "program.cep").write_text(text)
    command = [sys.executable, "-m", "ostinato.server.cli", "run", "program.cep", "--output=rises.jsonl"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    wanted = Counter(("rises", line) for line in (tmp_path / "rises.jsonl").read_text().splitlines())
    sides = plan_sides(text, {}, Body(Definitions(), Generation(0)), compare=True)
    folders = Folders((tmp_path,), "files.read")
    inputs = inputs_of(BacktestSource(kind="files"), sides.sources, folders, KafkaSection(), is_timed=True)
    kept = Kept()
    spec = BacktestSpec(sides.here, None, sides.patterns, inputs=inputs)
    assert over_sources(spec, [(sides.here, kept)], lambda *_: None) == 28
    assert kept.rows == wanted
    assert wanted


async def test_a_change_is_compared_with_what_runs_and_changes_nothing_of_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.server() as (changes, backtests, journal, live):
        await live.wait_until_ready(60)
        await changes.apply(f"{STREAM}\n{PATTERNS.format(least=4)}", Author("ann"))
        every = events()
        appended = await asyncio.wrap_future(journal.append("events", lines(every), len(every)))
        assert await live.wait_for_position(appended.next, 30)
        await live.ask("checkpoint")
        before, last = await asyncio.to_thread(fingerprint, rig.data), live.last_seq
        same = await backtests.create(BacktestRequest(text=PATTERNS.format(least=4)), CALLER)
        more = await backtests.create(BacktestRequest(text=PATTERNS.format(least=3), bucket_ms=60_000), CALLER)
        assert (await backtests.get(more.id)).state == "QUEUED"
        found = await ended(backtests, same)
        assert (found.state, found.events, found.progress) == ("FINISHED", COUNT, 1.0), found
        for pattern in found.patterns:
            assert pattern.matches == pattern.live == sum(bucket.matches for bucket in pattern.buckets) > 0
            assert (pattern.only_here, pattern.only_live) == (0, 0)
            assert pattern.common == pattern.matches + pattern.timeouts
        # the live patterns found the same, but for what waits for more events
        matches = MatchLogReader(rig.data / "matches").read(0, 100_000)
        rises = [match for match in matches if match.pattern == "rise" and match.kind == "match"]
        assert 0 <= found.patterns[0].matches - len(rises) < 20

        wider = await ended(backtests, more)
        assert wider.bucket_ms == 60_000
        rise, twice = wider.patterns
        assert rise.live == found.patterns[0].matches
        assert rise.only_here is not None
        assert rise.only_live == 0
        assert rise.only_here > 0
        assert {example["row"]["v"] for example in rise.examples_here} == {4}
        assert len(rise.examples_here) == 10
        assert rise.common == found.patterns[0].matches + found.patterns[0].timeouts
        assert twice.only_live  # pairs are others where there are more rises
        assert await asyncio.to_thread(fingerprint, rig.data) == before
        assert live.last_seq == last
        page = await backtests.list(1, None)
        assert [info.id for info in page.items] == [more.id]
        assert [info.id for info in (await backtests.list(5, page.next)).items] == [same.id]

        # nothing is left of one that is deleted while it runs
        for _ in range(60):
            journal.append("events", lines(every * 5), len(every) * 5)
        await asyncio.wrap_future(journal.tick())
        long = await backtests.create(BacktestRequest(text=PATTERNS.format(least=1)), CALLER)
        await until(backtests, long.id, lambda info: info.state == "RUNNING" and info.events > 0)
        began = time.monotonic()
        await backtests.delete(long.id, CALLER)
        assert time.monotonic() - began < 1.0
        with pytest.raises(NotThereError):
            await backtests.get(long.id)

        # what may not be read, or makes no sense
        outside = BacktestSource(kind="files", paths={"events": "/etc/passwd"})
        with pytest.raises(NotAllowedError):
            await backtests.create(BacktestRequest(text=PATTERNS.format(least=1), source=outside), CALLER)
        for request in (
            BacktestRequest(text=STREAM),
            BacktestRequest(text=PATTERNS.format(least=1), from_ms=5, to_ms=5),
            BacktestRequest(text=PATTERNS.format(least=1), params={"x": "1"}),
            BacktestRequest(text=PATTERNS.format(least=1), source=BacktestSource(kind="files")),
            BacktestRequest(text=PATTERNS.format(least=1), source=BacktestSource(kind="kafka")),
        ):
            with pytest.raises(RefusedError):
                await backtests.create(request, CALLER)
