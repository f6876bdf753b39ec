"""A pattern as it was declared, ready to be run on the partitions of a topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ostinato.cep.api import AnyPattern, Source, load_patterns
from ostinato.cep.nfa.compile import CompiledSet, compile_patterns
from ostinato.cep.nfa.output import Select
from ostinato.cep.runtime.time import TimePolicy
from ostinato.patterns.ast import Stream
from ostinato.patterns.errors import PatternError, Problem, did_you_mean


@dataclass(frozen=True, slots=True)
class Ready:
    """A compiled pattern.

    Attributes:
        name: of the pattern.
        stream: what it reads.
        compiled: it alone.
        selects: the Python function that makes its rows, where it has one that is called.
        policy: how time runs.
        timeouts: the stream of partial matches whose time ran out, if it has one.
    """

    name: str
    stream: Stream
    compiled: CompiledSet
    selects: Mapping[str, Select]
    policy: TimePolicy
    timeouts: str | None


def prepare(pattern: AnyPattern, on: Source | None, params: Mapping[str, Any] | None, name: str | None) -> Ready:
    """Check and compile one pattern; `name` says which, where a program has several.

    Raises PatternError.
    """
    loaded = load_patterns([pattern], on, params)
    patterns = {checked.pattern.name: checked for checked in loaded.program.patterns}
    if loaded.processes or not patterns:
        raise PatternError(Problem("a stream of Faust's takes a pattern, not a process function"))
    if name is None and len(patterns) > 1:
        raise PatternError(Problem(f"which of the patterns? {', '.join(patterns)}", hint="give name="))
    chosen = patterns.get(name or next(iter(patterns)))
    if chosen is None:
        hint = did_you_mean(name or "", list(patterns)) or f"there is {', '.join(patterns)}"
        raise PatternError(Problem(f"there is no pattern `{name}`", hint=hint))
    makers = [each.pattern.name for each in patterns.values() if each.output_stream.name == chosen.stream.name]
    if makers:
        raise PatternError(
            Problem(
                f"`{chosen.pattern.name}` reads the matches of `{makers[0]}`",
                hint="send those to a topic, and run it on that",
            )
        )
    placed = [column.name for column in chosen.stream.columns if column.metadata is not None]
    if placed:
        raise PatternError(
            Problem(f"column `{placed[0]}` is of the record's metadata", hint="an event of Faust's is its value alone")
        )
    definition = loaded.definition
    return Ready(
        chosen.pattern.name,
        chosen.stream,
        compile_patterns([chosen]),
        {found: select for found, select in definition.selects.items() if found == chosen.pattern.name},
        TimePolicy.of(chosen.stream.time, live=True),
        chosen.pattern.timeouts_into,
    )
