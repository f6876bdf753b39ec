"""What a run says on standard error: progress, and the line at its end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ostinato.cep.runtime.checkpoints import CheckpointStatistics
    from ostinato.cep.runtime.commands import JobStatus
    from ostinato.cep.runtime.statistics import Statistics

PATIENCE_SECONDS = 1.0
"""Runs shorter than this show no progress."""


class Progress:
    """A line on a terminal that is written over and over; says nothing where standard error is no terminal."""

    def __init__(self, portion: Callable[[], float | None] = lambda: None, *, wanted: bool = True) -> None:
        """`portion`: how much of the input was read, from 0 to 1, None where nobody knows."""
        self.portion = portion
        self.checkpoints: Callable[[], CheckpointStatistics | None] = lambda: None
        """What came of the job's checkpoints so far; None where it takes none."""
        self._wanted = wanted and sys.stderr.isatty()
        self._began = time.monotonic()
        self._width = 0

    def status(self, text: str) -> None:
        """Say what takes so long just now; on a terminal the line is replaced by what comes next."""
        if self._wanted:
            self._show(text)

    def say(self, text: str) -> None:
        """Say something that stays, on a line of its own; with or without a terminal."""
        self.clear()
        sys.stderr.write(f"ostinato: {text}\n")
        sys.stderr.flush()

    def update(self, statistics: Statistics) -> None:
        """Show how far the run is."""
        if not self._wanted or time.monotonic() - self._began < PATIENCE_SECONDS:
            return
        portion = self.portion()
        parts = [] if portion is None else [f"{portion:4.0%}"]
        parts += [f"{statistics.events:,} events", f"{statistics.events_per_second:,.0f} events/s"]
        if statistics.bad:
            parts.append(f"{statistics.bad:,} bad")
        if (checkpoints := self.checkpoints()) is not None:
            parts.append(_checkpoint(checkpoints))
        self._show("  ".join(parts))

    def clear(self) -> None:
        """Take the line away."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0

    def _show(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)


def _checkpoint(checkpoints: CheckpointStatistics) -> str:
    """``checkpoint 4 s ago``, and what is wrong with them where something is."""
    ago = checkpoints.age_seconds
    text = "no checkpoint yet" if ago is None else f"checkpoint {age(ago)} ago"
    return f"{text} ({checkpoints.failed_in_a_row} failed)" if checkpoints.failed_in_a_row else text


def counted(number: int, thing: str, things: str | None = None) -> str:
    """``1 match``, ``1,234 matches``."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def summary(
    status: JobStatus, dead_letters: str | None, late: str | None, ended: str = "", *, part_shown: bool = False
) -> str:
    """The line at the end of a run; `part_shown`: not all rows were written."""
    statistics, checkpoints = status.statistics, status.checkpoints
    timeouts = sum(numbers.timeouts for numbers in statistics.patterns.values())
    dropped = sum(numbers.dropped for numbers in statistics.patterns.values())
    shown = sum(rows for stream, rows in statistics.written.items() if not stream.endswith(".late"))
    parts = [
        counted(statistics.events, "event"),
        counted(statistics.matches, "match", "matches") + (f" ({shown:,} shown)" if part_shown else ""),
        f"{statistics.events_per_second:,.0f} events/s",
        counted(statistics.late, "late event") + (f" (in {late})" if statistics.late and late else ""),
        counted(statistics.bad, "bad event") + (f" (in {dead_letters})" if statistics.bad and dead_letters else ""),
    ]
    if timeouts:
        parts.insert(2, counted(timeouts, "timeout"))
    if dropped:
        parts.append(counted(dropped, "partial match", "partial matches") + " dropped by caps")
    if checkpoints is not None:
        last = checkpoints.last
        took = f" (the last {last.seconds * 1000:.0f} ms, {size(last.bytes_written)})" if last is not None else ""
        parts.append(counted(checkpoints.completed, "checkpoint") + took)
        if checkpoints.failed:
            parts.append(f"{checkpoints.failed:,} failed")
    if status.restarts:
        parts.append(counted(status.restarts, "restart"))
    if statistics.compiling_seconds >= 1:
        parts.append(f"{statistics.compiling_seconds:.0f} s of compiling not counted")
    return ended + ", ".join(parts)


def as_json(status: JobStatus, dead_letters: str | None, late: str | None, ended: str) -> str:
    """The same as one JSON object."""
    import json

    from ostinato.server.presence import checkpoint_numbers, operator_values

    statistics = status.statistics
    occupation = statistics.measure()
    return json.dumps(
        {
            "ended": ended,
            "events": statistics.events,
            "matches": statistics.matches,
            "late": statistics.late,
            "late_file": late if statistics.late else None,
            "bad": statistics.bad,
            "dead_letters": dead_letters if statistics.bad else None,
            "bytes": statistics.bytes,
            "seconds": round(statistics.seconds, 3),
            "events_per_second": round(statistics.events_per_second),
            "written": statistics.written,
            "checkpoints": checkpoint_numbers(status.checkpoints),
            "restarts": status.restarts,
            "operators": operator_values(occupation.operators),
            "workers": [operator_values(worker) for worker in occupation.workers],
            "patterns": {
                name: {
                    "matches": numbers.matches,
                    "timeouts": numbers.timeouts,
                    "partial_matches": numbers.partial_matches,
                    "dropped": numbers.dropped,
                }
                for name, numbers in statistics.patterns.items()
            },
        }
    )


def size(number: float) -> str:
    """``512 B``, ``1.2 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"


def age(seconds: float) -> str:
    """``4 s``, ``12 min``, ``3 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def table(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Rows in columns, the first `left` of them to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
