"""The fault matrix: what was done to a job, where, how often, and what was wrong afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.checker import Faults

PROPERTY = "fault"
"""Under this name a test's report carries what it tried, also from the processes of pytest-xdist."""

KINDS = tuple(Faults().counts)


@dataclass(slots=True)
class Line:
    """One fault at one place. `failed`: runs that did not even come to be judged."""

    runs: int = 0
    failed: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))


def entry(fault: str, where: str, faults: Faults | None) -> str:
    """One run, as a report carries it; None: it has not been judged."""
    return json.dumps([fault, where, None if faults is None else faults.counts])


def matrix(entries: Iterable[str]) -> Mapping[tuple[str, str], Line]:
    """All runs together, in the order in which the faults were first tried."""
    lines: dict[tuple[str, str], Line] = {}
    for text in entries:
        fault, where, counts = json.loads(text)
        line = lines.setdefault((fault, where), Line())
        line.runs += 1
        if counts is None:
            line.failed += 1
        else:
            for kind, count in counts.items():
                line.counts[kind] += count
    return lines


def as_text(lines: Mapping[tuple[str, str], Line]) -> list[str]:
    """A table to print."""
    head = ("fault", "where", "runs", "failed", *KINDS)
    rows: list[Sequence[str]] = [head]
    for (fault, where), line in sorted(lines.items()):
        rows.append((fault, where, str(line.runs), str(line.failed), *(str(line.counts[kind]) for kind in KINDS)))
    total = [sum(line.counts[kind] for line in lines.values()) for kind in KINDS]
    runs, failed = sum(line.runs for line in lines.values()), sum(line.failed for line in lines.values())
    rows.append(("in all", "", str(runs), str(failed), *map(str, total)))
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
