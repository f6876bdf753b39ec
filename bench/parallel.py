"""P1 in one process and in several over the same long file, taking turns: what more cores are worth."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measure import BenchError, Measured, run

Command = Callable[[Path, int], list[str]]
"""The command for a file and a number of workers."""


@dataclass(frozen=True)
class Scaling:
    """`workers` against one process.

    Seconds are medians. `ratio` is of the marginal speed: of the events between the short and the long file, so that
    start-up does not count. `free_cores`: how many were idle before each run, the least of them.
    """

    workers: int
    events: int
    alone_s: float
    together_s: float
    alone_cpu_s: float
    together_cpu_s: float
    short_events: int
    short_alone_s: float
    short_together_s: float
    free_cores: float

    @property
    def ratio(self) -> float:
        together = self.together_s - self.short_together_s
        return (self.alone_s - self.short_alone_s) / together if together > 0 else float("inf")

    @property
    def whole_ratio(self) -> float:
        """With start-up."""
        return self.alone_s / self.together_s


def cores_allowed() -> set[int]:
    """The cores that this process may run on; empty where that is not known."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def allow_cores(cores: set[int]) -> None:
    """Let this process and its children run on these cores."""
    if cores:
        os.sched_setaffinity(0, cores)


def free_cores(seconds: float = 0.5) -> float:
    """How many of the cores are idle, as seen over a moment; NaN where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return float("nan")

    def ticks() -> list[int]:
        return [int(each) for each in stat.read_text().split("\n", 1)[0].split()[1:9]]

    before = ticks()
    time.sleep(seconds)
    spent = [after - earlier for after, earlier in zip(ticks(), before, strict=True)]
    idle = spent[3] + spent[4]
    return idle / max(1, sum(spent)) * (os.cpu_count() or 1)


def compare(command: Command, short: tuple[Path, int], long: tuple[Path, int], output: Path, repeats: int) -> Scaling:
    """Run one process and two workers over both files. Raises BenchError where what they write differs."""
    workers = 2
    taken: dict[tuple[int, Path], list[Measured]] = {}
    free = []
    for _ in range(repeats):
        for path, _events in (short, long):
            written = []
            for count in (1, workers):
                free.append(free_cores())
                taken.setdefault((count, path), []).append(run(command(path, count), output))
                written.append(output.read_bytes())
            if written[0] != written[1]:
                raise BenchError(f"{workers} workers wrote something else than one process over {path.name}")

    def wall(count: int, path: Path) -> float:
        return median(each.wall_s for each in taken[count, path])

    def cpu(count: int, path: Path) -> float:
        return median(each.cpu_s for each in taken[count, path])

    return Scaling(
        workers,
        long[1],
        wall(1, long[0]),
        wall(workers, long[0]),
        cpu(1, long[0]),
        cpu(workers, long[0]),
        short[1],
        wall(1, short[0]),
        wall(workers, short[0]),
        min(free),
    )


def table(row: Scaling) -> str:
    """The comparison as a Markdown table."""
    return (
        f"| P1 over {row.events:,} events | seconds | CPU seconds | seconds over {row.short_events:,} |\n"
        "| --- | --: | --: | --: |\n"
        f"| -p 1 | {row.alone_s:.2f} | {row.alone_cpu_s:.2f} | {row.short_alone_s:.2f} |\n"
        f"| -p {row.workers} | {row.together_s:.2f} | {row.together_cpu_s:.2f} | {row.short_together_s:.2f} |\n\n"
        f"-p {row.workers} is {row.ratio:.2f} times as fast as -p 1 ({row.whole_ratio:.2f} times with start-up); "
        f"at least {row.free_cores:.1f} cores were free."
    )
