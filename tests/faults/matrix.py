"""The fault matrix: what was done to a job, where, how often, and what was wrong afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.faults.checker import Faults

PROPERTY = "fault"
"""Under this name a test's report carries what it tried, also from the processes of pytest-xdist."""

KINDS = tuple(Faults().counts)


@dataclass(slots=True)
class Line:
    """One fault at one place. `failed`: runs that did not even come to be judged; `recoveries`: seconds, of those runs
    that measured it."""

    runs: int = 0
    failed: int = 0
    recoveries: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))


def entry(fault: str, where: str, faults: Faults | None, recovery: float | None = None) -> str:
    """One run, as a report carries it; None: it has not been judged, or not measured."""
    return json.dumps([fault, where, None if faults is None else faults.counts, recovery])


def matrix(entries: Iterable[str]) -> Mapping[tuple[str, str], Line]:
    """All runs together, in the order in which the faults were first tried."""
    lines: dict[tuple[str, str], Line] = {}
    for text in entries:
        fault, where, counts, recovery = json.loads(text)
        line = lines.setdefault((fault, where), Line())
        line.runs += 1
        if recovery is not None:
            line.recoveries.append(recovery)
        if counts is None:
            line.failed += 1
        else:
            for kind, count in counts.items():
                line.counts[kind] += count
    return lines


def as_text(lines: Mapping[tuple[str, str], Line]) -> list[str]:
    """A table to print; its last column has the median and the largest time of recovery, seconds."""
    head = ("fault", "where", "runs", "failed", *KINDS, "recovery")
    rows: list[Sequence[str]] = [head]
    for (fault, where), line in sorted(lines.items()):
        counts = (str(line.counts[kind]) for kind in KINDS)
        rows.append((fault, where, str(line.runs), str(line.failed), *counts, _recovery(line.recoveries)))
    total = [sum(line.counts[kind] for line in lines.values()) for kind in KINDS]
    runs, failed = sum(line.runs for line in lines.values()), sum(line.failed for line in lines.values())
    recoveries = [seconds for line in lines.values() for seconds in line.recoveries]
    rows.append(("in all", "", str(runs), str(failed), *map(str, total), _recovery(recoveries)))
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _recovery(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f}/{max(seconds):.1f}" if seconds else "-"
