"""Patterns declared with a decorator over the function that makes a result of each match.

::

    @cep.pattern("fail{3,} ok", on=Login, within="5 min", skip="past last",
                 fail=lambda e: e.status == "FAILED", ok=lambda e: e.status == "SUCCESS")
    def suspicious_login(match):
        return {"user": match.key, "failures": len(match["fail"]), "ip": match["ok"].ip}

The sequence is written as in a ``.cep`` file, so a repetition is consecutive unless it says ``relaxed``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ostinato.patterns.ast import (
    DEFAULT_CAP,
    NO_SKIP,
    ONCE,
    Alternation,
    Cap,
    Element,
    Expr,
    Output,
    Pattern,
    Skip,
    Stage,
    Stream,
    stages_of,
)
from ostinato.patterns.conditions import Condition, to_condition
from ostinato.patterns.declarations import Event
from ostinato.patterns.durations import DurationLike, duration_ms
from ostinato.patterns.errors import PatternError, Problem, did_you_mean
from ostinato.patterns.match import Match
from ostinato.patterns.results import lower_result
from ostinato.patterns.skipping import AfterMatchSkipStrategy

ResultFunction = Callable[[Match], "Mapping[str, Any] | Sequence[Mapping[str, Any]] | None"]


@dataclass(frozen=True, slots=True)
class Definition:
    """A stage's condition together with its until condition."""

    condition: Condition | None
    until: Condition | None = None


def define(condition: Condition | None = None, *, until: Condition | None = None) -> Definition:
    """A stage with an until condition: ``b=cep.define(lambda e: e.price > 3, until=lambda e: e.price < 1)``."""
    return Definition(condition, until)


class DeclaredPattern:
    """A pattern and the function that makes a result of each match.

    Attributes:
        ast: the pattern.
        stream: the declaration of the stream it reads, or None where only its name was given.
        function: gives for a `Match` a row (a dict), several, or None for no row.
        calls: is the function called for each match? It is not where matches are only counted, and where what it
            returns could be told from its code: then that is the pattern's `emit`.
        why_called: why it could not.
    """

    def __init__(
        self, ast: Pattern, stream: Stream | None, function: ResultFunction, why_called: str | None = None
    ) -> None:
        self.ast = ast
        self.stream = stream
        self.function = function
        self.why_called = why_called
        self.__name__ = ast.name
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._stages = frozenset(stage.name for stage in stages_of(ast.items))
        self._single = frozenset(_singles(ast.items))

    @property
    def name(self) -> str:
        return self.ast.name

    @property
    def calls(self) -> bool:
        return not self.ast.emit and not self.ast.count

    def __call__(self, match: Match) -> Mapping[str, Any] | Sequence[Mapping[str, Any]] | None:
        """Call the function itself, as if it were not decorated."""
        return self.function(match)

    def match(self, key: Any, start: int, end: int, taken: Mapping[str, Sequence[Any]]) -> Match:
        """The match that the function is given, of the events that each stage took."""
        return Match(self.ast.name, key, start, end, taken, self._stages, self._single)

    def rows(self, match: Match) -> list[Mapping[str, Any]]:
        """What the function makes of a match, as a list of rows.

        Raises:
            PatternError: it gives something that is no row.
        """
        result = self.function(match)
        rows = [] if result is None else [result] if isinstance(result, Mapping) else result
        if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
            return list(rows)
        raise PatternError(
            Problem(
                f"`{self.name}` gave {type(result).__name__} for a match",
                hint="return a dict, a list of dicts, or None for nothing",
            )
        )

    def __repr__(self) -> str:
        return f"<pattern {self.name} on {self.ast.on}>"


def _singles(items: Sequence[Element]) -> list[str]:
    """The stages that take one event at most: without a quantifier, and in no repeated group."""
    found: list[str] = []
    for item in items:
        if isinstance(item, Alternation):
            for branch in item.branches:
                found += _singles(branch)
        elif (item.quantifier.min, item.quantifier.max) in ((ONCE.min, ONCE.max), (0, 1)):
            found += [item.name] if isinstance(item, Stage) else _singles(item.items)
    return found


def pattern(
    match: str,
    *,
    on: type[Any] | Stream | DeclaredPattern | str,
    within: DurationLike | None = None,
    skip: str | Skip | AfterMatchSkipStrategy = NO_SKIP,
    define: Mapping[str, Condition | Definition] | None = None,
    emit: Mapping[str, Condition] | None = None,
    into: str | None = None,
    timeouts: str | None = None,
    count: bool = False,
    cap: int | Cap = DEFAULT_CAP,
    name: str | None = None,
    **conditions: Condition | Definition,
) -> Callable[[ResultFunction], DeclaredPattern]:
    """Declare the decorated function as the result of a pattern.

    Args:
        match: the sequence of stages, as behind ``match`` in a ``.cep`` file.
        on: the stream that it reads: a class derived from `Event`, a process function, a pattern, or its name.
        within: the longest time from the first event of a match to the last.
        skip: as behind ``after match``: ``"past last"``, ``"to next"``, ``"to first b"``.
        define: conditions of stages that are called like one of these arguments.
        emit: columns that are computed without the function, which is then not called.
        into: the stream that the results become; the pattern's name by default.
        timeouts: the stream that partial matches become when their time runs out, with every stage's events.
        count: give the number of matches that each event completes, instead of the matches.
        cap: the most partial matches of one key.
        name: the pattern's name; the function's by default.
        conditions: by stage. A stage without one accepts every event.

    Raises:
        PatternError: the text is wrong, a condition belongs to no stage, or Flink would refuse the pattern.
    """
    from ostinato.patterns.checks import check_structure
    from ostinato.patterns.parser import parse_match, parse_skip
    from ostinato.patterns.rewrite import with_conditions

    items = parse_match(match)
    stream = _stream(on)
    stages = [stage.name for stage in stages_of(items)]
    given = {**conditions, **(define or {})}
    for stage in given:
        if stage not in stages:
            raise PatternError(
                Problem(
                    f"there is a condition for `{stage}`, which is no stage of `{match}`",
                    hint=did_you_mean(stage, stages) or f"the stages are {', '.join(stages)}",
                )
            )
    columns = {column.name: column.type for column in stream.columns} if stream is not None else None

    def expr(condition: Condition | None) -> Expr | None:
        return None if condition is None else to_condition(condition, columns)

    defined = {
        stage: given_ if isinstance(given_, Definition) else Definition(given_) for stage, given_ in given.items()
    }
    conditioned = with_conditions(items, {stage: (expr(d.condition), expr(d.until)) for stage, d in defined.items()})

    def declare(function: ResultFunction) -> DeclaredPattern:
        tree = Pattern(
            name or function.__name__,
            stream.name if stream is not None else _stream_name(on),
            conditioned,
            within_ms=None if within is None else duration_ms(within),
            skip=parse_skip(skip)
            if isinstance(skip, str)
            else skip.skip
            if isinstance(skip, AfterMatchSkipStrategy)
            else skip,
            emit=tuple(Output(column, to_condition(value, columns)) for column, value in (emit or {}).items()),
            count=count,
            into=into,
            timeouts_into=timeouts,
            cap=Cap(cap) if isinstance(cap, int) else cap,
        )
        check_structure(tree)
        reason = None
        if not tree.emit and not tree.count:
            single = frozenset(_singles(tree.items))
            keys = stream.keys if stream is not None else ()
            emitted = lower_result(function, tree, columns, keys, frozenset(stages), single)
            if isinstance(emitted, str):
                reason = emitted
            else:
                tree = replace(tree, emit=emitted)
        return DeclaredPattern(tree, stream, function, reason)

    return declare


def _stream(on: type[Event] | Stream | DeclaredPattern | str) -> Stream | None:
    if isinstance(on, Stream):
        return on
    found = getattr(on, "__stream__", None)
    return found if isinstance(found, Stream) else None


def _stream_name(on: object) -> str:
    if isinstance(on, DeclaredPattern):
        return on.ast.into or on.name
    if isinstance(on, str):
        return on
    raise PatternError(Problem(f"{on!r} is no stream", hint="give a class derived from cep.Event, or a stream's name"))


def collect(namespace: Mapping[str, Any]) -> tuple[tuple[Stream, ...], tuple[DeclaredPattern, ...]]:
    """The streams and the patterns of a module (its ``vars()``), in the order of the text, each once.

    Streams are those of the module's event classes, and those that its patterns read.

    Raises:
        PatternError: two different streams, or two patterns, have one name.
    """
    streams: dict[str, Stream] = {}
    patterns: dict[str, DeclaredPattern] = {}
    for value in namespace.values():
        stream = None
        if isinstance(value, type) and issubclass(value, Event) and value is not Event:
            stream = value.__stream__
        elif isinstance(value, DeclaredPattern):
            stream = value.stream
            if patterns.setdefault(value.name, value) is not value:
                raise PatternError(Problem(f"there are two patterns `{value.name}`", hint="give one of them name=..."))
        if stream is not None and streams.setdefault(stream.name, stream) != stream:
            raise PatternError(
                Problem(f"there are two different streams `{stream.name}`", hint="give one of the classes name=...")
            )
    return tuple(streams.values()), tuple(patterns.values())
