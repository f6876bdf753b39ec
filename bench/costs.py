"""What checkpoints and state on disk cost: the same input with and without, taking turns."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from inputs import BENCH, beginning, generated, passes
from jobs import empty_redis, taking_turns
from measure import BenchError, Measured, load, ostinato

SMALL = 100_000
"""Events of the short file of each pair: its beginning. What both take in common is start-up."""

Taken = Mapping[str, Sequence[tuple[Measured, dict[str, Any]]]]


@dataclass(frozen=True)
class Row:
    """One way to run a workload. Rates are marginal, in events/s, of the wall's seconds and of CPU seconds; ratios
    are to the first way. `checkpoints`: as the last run of the long file reported them."""

    workload: str
    way: str
    events: int
    matches: int
    wall_rate: float
    cpu_rate: float
    wall_ratio: float
    cpu_ratio: float
    peak_bytes: int
    load: float
    checkpoints: dict[str, Any] | None = None


class Costs:
    """Runs whole processes, with what they write in a folder."""

    def __init__(self, folder: Path, repeats: int) -> None:
        self._folder = folder
        self._repeats = repeats
        self._output = folder / "said"
        self._matches = folder / "matches.jsonl"

    def checkpoints(self, address: str, *, quick: bool) -> list[Row]:
        """P1 without, and with a checkpoint every second into a directory and into the Redis at `address`."""
        long = passes(generated("login", 1_000_000), 4) if quick else passes(generated("login", 10_000_000), 2)
        events = 4_000_000 if quick else 20_000_000
        folder = self._folder / "checkpoints"
        ways = {
            "no checkpoints": [],
            "to a directory, every second": ["--checkpoint-dir", str(folder), "--interval", "1s"],
            "to Redis, every second": ["--checkpoint-redis", address, "--interval", "1s"],
        }

        def begin(_: str) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            empty_redis(address)

        return self._compare("P1 login", "p1_login.cep", long, events, ways, begin)

    def on_disk(self, *, quick: bool) -> list[Row]:
        """P1 over more users than memory may hold anything of: of most events, the user is not there."""
        events, users = (500_000, 400_000) if quick else (5_000_000, 2_500_000)
        long = generated("login", events, users)
        ways = {
            "memory": [],
            "rocksdb, 64 MiB": ["--state-backend", "rocksdb", "--state-memory", "64MiB"],
        }
        return self._compare(f"P1 login, {users:,} users", "p1_login.cep", long, events, ways)

    def _compare(
        self,
        title: str,
        pattern: str,
        long: Path,
        events: int,
        ways: Mapping[str, Sequence[str]],
        begin: Callable[[str], None] = lambda _: None,
    ) -> list[Row]:
        base = [ostinato(), "run", str(BENCH / pattern), "-o", str(self._matches)]
        short = beginning(long, SMALL)
        commands = {
            (way, size): [*base, "--input", str(path), *options]
            for size, path in (("short", short), ("long", long))
            for way, options in ways.items()
        }
        taken = taking_turns(
            {f"{way}/{size}": command for (way, size), command in commands.items()}, self._repeats, self._output, begin
        )
        found = [self._row(title, way, events, taken[f"{way}/short"], taken[f"{way}/long"]) for way in ways]
        first = found[0]
        if len({row.matches for row in found}) > 1:
            raise BenchError(f"{title}: matches differ: " + ", ".join(f"{row.way} {row.matches:,}" for row in found))
        return [
            replace(row, wall_ratio=row.wall_rate / first.wall_rate, cpu_ratio=row.cpu_rate / first.cpu_rate)
            for row in found
        ]

    def _row(
        self,
        title: str,
        way: str,
        events: int,
        short: Sequence[tuple[Measured, dict[str, Any]]],
        long: Sequence[tuple[Measured, dict[str, Any]]],
    ) -> Row:
        wall = median(each.wall_s for each, _ in long) - median(each.wall_s for each, _ in short)
        cpu = median(each.cpu_s for each, _ in long) - median(each.cpu_s for each, _ in short)
        more = events - SMALL
        last = long[-1][1]
        return Row(
            title,
            way,
            events,
            last["matches"],
            more / wall if wall > 0 else float("inf"),
            more / cpu if cpu > 0 else float("inf"),
            1.0,
            1.0,
            max(each.peak_bytes for each, _ in long),
            load(),
            last["checkpoints"],
        )
