"""What is said of a pattern that cannot be: one family of errors, each with a place and a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a source text; lines and columns count from 1, `end_column` is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: Span | None) -> Span:
        """The span from the start of this one to the end of the other."""
        if other is None:
            return self
        return Span(self.line, self.column, other.end_line, other.end_column)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where, and what to do about it."""

    message: str
    span: Span | None = None
    hint: str | None = None

    def render(self, source: str | None, filename: str) -> str:
        """The problem as ``file:line:column: message``, the line, a caret and the hint."""
        if self.span is None:
            where = f"{filename}: "
            excerpt = ""
        else:
            where = f"{filename}:{self.span.line}:{self.span.column}: "
            excerpt = self._excerpt(source) if source is not None else ""
        hint = f"\n  {self.hint}" if self.hint else ""
        return f"{where}{self.message}{excerpt}{hint}"

    def _excerpt(self, source: str | None) -> str:
        assert self.span is not None
        assert source is not None
        lines = source.splitlines()
        if not 1 <= self.span.line <= len(lines):
            return ""
        line = lines[self.span.line - 1].replace("\t", " ")
        end = self.span.end_column if self.span.end_line == self.span.line else len(line) + 1
        width = max(1, min(end, len(line) + 1) - self.span.column)
        start = max(0, self.span.column - 1 - 60)
        shown = line[start : start + 160]
        caret = " " * (self.span.column - 1 - start) + "^" * min(width, 100)
        return f"\n    {shown}\n    {caret}"


class PatternError(Exception):
    """A pattern, an expression or a file of them is wrong.

    Attributes:
        problems: everything that was found, in the order of the text.
        source: the text they were found in, where there is one.
        filename: its name, for messages.
    """

    def __init__(
        self,
        problems: Sequence[Problem] | Problem | str,
        *,
        source: str | None = None,
        filename: str = "<pattern>",
    ) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.source = source
        self.filename = filename
        super().__init__(str(self))

    def __str__(self) -> str:
        return "\n".join(problem.render(self.source, self.filename) for problem in self.problems)

    def located(self, source: str, filename: str) -> PatternError:
        """The same error, told where its text came from."""
        return type(self)(self.problems, source=source, filename=filename)


class MalformedPatternError(PatternError):
    """The parts do not make a pattern (Flink's MalformedPatternException and its kin)."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """``did you mean `status`?`` where one of `known` is close to `name`.

    >>> did_you_mean("statsu", ["status", "user"])
    'did you mean `status`?'
    """
    known = list(known)
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"did you mean `{by_lower[close[0]]}`?" if close else None


def at(problem: Problem, span: Span | None) -> Problem:
    """The problem at `span`, unless it has a place already."""
    return problem if problem.span is not None else replace(problem, span=span)
