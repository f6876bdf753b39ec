"""Measure Ostinato against hand-written Python loops over the same files in the same run.

    python bench/run.py [--quick] [--workload p1 p3] [--repeats 3] [--memory] [--cold] [--parallel] [--json]

Every figure is of a whole process that reads JSON lines from disk, pinned to one core; the two sides take turns.
Events/s are marginal: (large - small) / (seconds for large - seconds for small), medians of the repeats, so that
start-up does not count; it is measured on its own. docs/performance.md says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import parallel
from inputs import BENCH, beginning, empty, generated, note
from measure import BenchError, Measured, machine, ostinato, pin_to_one_core, run, run_watched

MIB = 1 << 20

Counter = Callable[[Path], int]
Clock = Callable[[Measured], float]

CLOCKS: dict[str, Clock] = {"wall": lambda measured: measured.wall_s, "cpu": lambda measured: measured.cpu_s}


def count_rows(output: Path) -> int:
    """One match a line."""
    with output.open("rb") as lines:
        return sum(1 for _ in lines)


def count_counts(output: Path) -> int:
    """Every line says how many matches an event completed."""
    with output.open("rb") as lines:
        return sum(orjson.loads(line)["matches"] for line in lines)


@dataclass(frozen=True)
class Workload:
    """One line of the table: its pattern file, the stream it reads, how its matches are counted."""

    name: str
    title: str
    stream: str
    pattern: str
    count: Counter = count_rows


WORKLOADS = {
    each.name: each
    for each in (
        Workload("p1", "P1 login", "login", "p1_login.cep"),
        Workload("p2", "P2 fraud", "txn", "p2_fraud.cep"),
        Workload("p3", "P3 trend", "tick", "p3_trend.cep"),
        Workload("p4", "P4 any, counted", "tick", "p4_any.cep", count_counts),
        Workload("p6", "P6 hundred patterns", "login", "p6_many.cep"),
    )
}


SMALL, LARGE = 100_000, 1_000_000
"""Events of the two measured files; the small one is the beginning of the large one."""
FIRST_MATCH_EVENTS = 20_000
"""Enough that every workload has matches, too few to take time themselves."""
LONG = 10_000_000
"""Events of the run that shows that memory does not grow with the length of the input."""


@dataclass(frozen=True)
class Side:
    """What one of the two did in one workload."""

    small_s: list[float]
    large_s: list[float]
    events_per_s: float
    peak_bytes: int
    matches: int


@dataclass(frozen=True)
class Result:
    """A line of the table."""

    workload: str
    title: str
    plain: Side
    ostinato: Side
    startup_s: float
    first_match_s: float

    @property
    def ratio(self) -> float:
        return self.ostinato.events_per_s / self.plain.events_per_s


@dataclass(frozen=True)
class Memory:
    """Peak memory of one run of P1."""

    title: str
    events: int
    peak_bytes: int
    wall_s: float


class Bench:
    """Runs both sides in a folder for what they write."""

    def __init__(self, folder: Path, repeats: int, clock: Clock) -> None:
        self._output = folder / "matches"
        self._cache = folder / "kernels"
        self._repeats = repeats
        self._clock = clock
        self._ostinato = ostinato()

    def ostinato(self, workload: Workload, events: Path) -> list[str]:
        return [self._ostinato, "run", str(BENCH / workload.pattern), "--input", str(events)]

    def plain(self, workload: Workload, events: Path) -> list[str]:
        return [sys.executable, str(BENCH / "plain.py"), workload.name, str(events)]

    def compare(self, workload: Workload) -> Result:
        """Both sides over both files, taking turns."""
        large = generated(workload.stream, LARGE)
        small = beginning(large, SMALL)
        run(self.ostinato(workload, small), self._output)  # compiles the kernels where that was never done
        taken: dict[tuple[str, Path], list[Measured]] = {}
        matches: dict[str, int] = {}
        for _ in range(self._repeats):
            for events in (small, large):
                for side, command in (("plain", self.plain), ("ostinato", self.ostinato)):
                    measured = run(command(workload, events), self._output)
                    taken.setdefault((side, events), []).append(measured)
                    matches[side] = self._matches(side, workload)
        startup = median(run(self.ostinato(workload, empty()), self._output).wall_s for _ in range(self._repeats))
        few = beginning(large, FIRST_MATCH_EVENTS)
        first = [run_watched(self.ostinato(workload, few), self._output).first_output_s for _ in range(self._repeats)]
        sides = {
            side: self._side(taken[side, small], taken[side, large], matches[side]) for side in ("plain", "ostinato")
        }
        return Result(
            workload.name,
            workload.title,
            sides["plain"],
            sides["ostinato"],
            startup,
            median(seconds for seconds in first if seconds is not None),
        )

    def _matches(self, side: str, workload: Workload) -> int:
        if side == "plain":
            return int(json.loads(self._output.read_text())["matches"])
        return workload.count(self._output)

    def _side(self, small: list[Measured], large: list[Measured], matches: int) -> Side:
        small_s, large_s = [self._clock(each) for each in small], [self._clock(each) for each in large]
        seconds = median(large_s) - median(small_s)
        events = LARGE - SMALL
        rate = events / seconds if seconds > 0 else float("inf")
        return Side(small_s, large_s, rate, max(each.peak_bytes for each in large), matches)

    def memory(self) -> Iterable[Memory]:
        """P1 over a long stream, its beginning, and a shorter stream of its own."""
        long = generated("login", LONG)
        for title, events, path in (
            (f"login of {LARGE:,}", LARGE, generated("login", LARGE)),
            (f"beginning of login of {LONG:,}", LARGE, beginning(long, LARGE)),
            (f"login of {LONG:,}", LONG, long),
        ):
            measured = run(self.ostinato(WORKLOADS["p1"], path), self._output)
            yield Memory(title, events, measured.peak_bytes, measured.wall_s)

    def scaling(self) -> parallel.Scaling:
        """P1 in two workers against one process, on all cores."""
        long = generated("login", LONG)

        def command(events: Path, workers: int) -> list[str]:
            return [*self.ostinato(WORKLOADS["p1"], events), "-p", str(workers)]

        run(command(beginning(long, SMALL), 2), self._output)  # compiles what only workers need
        return parallel.compare(command, (beginning(long, LARGE), LARGE), (long, LONG), self._output, self._repeats)

    def cold_start(self) -> float:
        """Seconds until the first match of a first-ever start: no compiled kernels."""
        few = beginning(generated("login", LARGE), FIRST_MATCH_EVENTS)
        command = self.ostinato(WORKLOADS["p1"], few)
        measured = run_watched(command, self._output, {"OSTINATO_CACHE_DIR": str(self._cache)})
        assert measured.first_output_s is not None
        return measured.first_output_s


def table(results: list[Result]) -> str:
    """The comparison as a Markdown table."""
    head = (
        "| workload | matches | plain loop, events/s | Ostinato, events/s | ratio | empty input, s | first match, s "
        "| plain peak, MiB | Ostinato peak, MiB |\n| --- | --: | --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {each.title} | {each.ostinato.matches:,} | {each.plain.events_per_s:,.0f} "
        f"| {each.ostinato.events_per_s:,.0f} | {each.ratio:.2f} | {each.startup_s:.2f} | {each.first_match_s:.2f} "
        f"| {each.plain.peak_bytes / MIB:.0f} | {each.ostinato.peak_bytes / MIB:.0f} |"
        for each in results
    ]
    return "\n".join([head, *lines])


def memory_table(rows: list[Memory]) -> str:
    head = "| P1 over | events | peak, MiB | seconds |\n| --- | --: | --: | --: |"
    lines = [f"| {each.title} | {each.events:,} | {each.peak_bytes / MIB:.0f} | {each.wall_s:.1f} |" for each in rows]
    growth = rows[-1].peak_bytes / rows[0].peak_bytes - 1
    return "\n".join([head, *lines, f"\nTen times the events: {growth:+.0%} peak memory."])


def disagreements(results: list[Result]) -> list[str]:
    return [
        f"{each.title}: the plain loop found {each.plain.matches:,} matches, Ostinato {each.ostinato.matches:,}"
        for each in results
        if each.plain.matches != each.ostinato.matches
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Ostinato against hand-written Python loops.")
    parser.add_argument("--quick", action="store_true", help="every process once: rough figures")
    parser.add_argument("--workload", nargs="+", type=str.lower, choices=sorted(WORKLOADS), metavar="NAME")
    parser.add_argument("--repeats", type=int, help="runs of each process, of which the median counts (3; quick: 1)")
    parser.add_argument(
        "--clock", choices=sorted(CLOCKS), default="wall", help="cpu: CPU seconds instead, for a machine that is busy"
    )
    parser.add_argument("--memory", action="store_true", help=f"also peak memory over {LONG:,} events")
    parser.add_argument("--parallel", action="store_true", help=f"also -p 2 against -p 1 over {LONG:,} events")
    parser.add_argument("--cold", action="store_true", help="also a first-ever start, which compiles the kernels")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    cores = parallel.cores_allowed()
    core = pin_to_one_core()
    repeats = chosen.repeats or (1 if chosen.quick else 3)
    about = f"{machine()}; one core ({core}), {SMALL:,} to {LARGE:,} events, {chosen.clock} time, median of {repeats}"
    results: list[Result] = []
    report: dict[str, Any] = {"about": about}
    with tempfile.TemporaryDirectory(prefix="ostinato-bench-") as folder:
        bench = Bench(Path(folder), repeats, CLOCKS[chosen.clock])
        for name in chosen.workload or WORKLOADS:
            note(f"{WORKLOADS[name].title} ...")
            results.append(bench.compare(WORKLOADS[name]))
        report["workloads"] = [asdict(each) | {"ratio": each.ratio} for each in results]
        if chosen.cold:
            note("first-ever start ...")
            report["cold_start_s"] = bench.cold_start()
        memory = []
        if chosen.memory:
            note("memory ...")
            memory = list(bench.memory())
            report["memory"] = [asdict(each) for each in memory]
        if chosen.parallel:
            note("two workers ...")
            parallel.allow_cores(cores)
            scaling = bench.scaling()
            report["parallel"] = asdict(scaling) | {"ratio": scaling.ratio, "whole_ratio": scaling.whole_ratio}
    if chosen.json:
        print(json.dumps(report, indent=2))
    else:
        print(f"\n{about}\n\n{table(results)}")
        if chosen.cold:
            print(f"\nFirst-ever start, kernels compiled on the way: first match after {report['cold_start_s']:.1f} s.")
        if memory:
            print(f"\n{memory_table(memory)}")
        if chosen.parallel:
            print(f"\n{parallel.table(scaling)}")
    problems = disagreements(results)
    for problem in problems:
        note(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(str(error))
