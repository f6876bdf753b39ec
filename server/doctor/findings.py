"""What the doctor says, and the checks that say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Generic, TypeVar

F = TypeVar("F")


class Severity(IntEnum):
    """How bad something is.

    Members:
        OK: as it should be.
        NOTE: worth knowing; nothing has to be done.
        WARNING: it works until something else happens.
        ERROR: the job does not run, or does not keep its promise.
    """

    OK = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        severity: how bad it is.
        subject: what it is about, such as ``topic logins``.
        what: what is.
        why: why it matters; empty where all is well.
        change: what to set to which value, or which command to run; empty where nothing is to be done.
        check: the check that says it.
    """

    severity: Severity
    subject: str
    what: str
    why: str = ""
    change: str = ""
    check: str = ""

    @property
    def line(self) -> str:
        """All of it in one line, without the severity."""
        said = f"{self.subject}: {self.what}"
        for part in (self.why, self.change):
            said += f"; {part}" if part else ""
        return said


@dataclass(frozen=True, slots=True)
class Check(Generic[F]):
    """A check.

    Attributes:
        name: such as ``kafka.retention``.
        says: what it makes sure of, in a line; `docs/cli.md` has the same table.
        look: what it finds in facts; nothing where they do not concern it.
    """

    name: str
    says: str
    look: Callable[[F], Iterable[Finding]]


def run(checks: Sequence[Check[F]], facts: F) -> Iterator[Finding]:
    """What checks find, each finding with the name of its check."""
    for check in checks:
        for finding in check.look(facts):
            yield replace(finding, check=check.name)


def ok(subject: str, what: str) -> Finding:
    return Finding(Severity.OK, subject, what)


def note(subject: str, what: str, why: str, change: str = "") -> Finding:
    return Finding(Severity.NOTE, subject, what, why, change)


def warning(subject: str, what: str, why: str, change: str) -> Finding:
    return Finding(Severity.WARNING, subject, what, why, change)


def error(subject: str, what: str, why: str, change: str) -> Finding:
    return Finding(Severity.ERROR, subject, what, why, change)


_SPANS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms"))


def span(milliseconds: float) -> str:
    """A span of time for people, to two units.

    >>> span(5_400_000), span(100), span(0), span(604_800_000)
    ('1 h 30 min', '100 ms', '0 ms', '7 d')
    """
    rest = round(milliseconds)
    parts: list[str] = []
    for size, unit in _SPANS:
        if rest >= size:
            count, rest = divmod(rest, size)
            parts.append(f"{count} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 ms"
