"""From a generation to the job that the live worker runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from ostinato.cep.runtime.plan import Plan, plan
from ostinato.patterns import ast
from ostinato.patterns.errors import PatternError
from ostinato.patterns.parser import parse_program
from ostinato.patterns.program_check import ProgramProblems, order_of_patterns
from ostinato.patterns.schema import stream_problems
from ostinato.patterns.typecheck import CheckedPattern, CheckedProgram, check_pattern
from ostinato.server.ingest.gate import journal_form
from ostinato.server.live.generation import SHADOW, Generation, Member

if TYPE_CHECKING:
    from ostinato.cep.runtime.job import Definition

_NOWHERE = ast.Connector("matches")
"""Rows go to the match log, whatever the program says of outputs."""


@dataclass(frozen=True, slots=True)
class Runnable:
    """A generation that has been checked.

    Attributes:
        generation: as it was given.
        checked: its patterns, by engine name.
        plan: the job laid out; None where no pattern runs.
        draining: engine names of patterns that begin nothing new.
        streams: declared streams by name, also those that nothing reads.
    """

    generation: Generation
    checked: Mapping[str, CheckedPattern]
    plan: Plan | None
    draining: frozenset[str]
    streams: Mapping[str, ast.Stream]

    @property
    def definition(self) -> Definition | None:
        """The job; None where no pattern runs."""
        from ostinato.cep.runtime.job import Definition

        if self.plan is None:
            return None
        # whole rows: what comes late is kept with all its columns; and what waits may be read by patterns to come
        return Definition(self.plan, whole_rows=True, attributed=True, draining=self.draining, keep_columns=True)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A declaration, and the parameters that it names."""

    tree: ast.Pattern
    params: frozenset[str]


class Checker:
    """Checks generations. What was checked before and has not changed is not checked again."""

    def __init__(self) -> None:
        self._parsed: dict[str, _Parsed] = {}
        self._streams: dict[str, ast.Stream] = {}
        self._params: dict[str, ast.ParamDecl] = {}
        self._checked: dict[object, CheckedPattern] = {}

    def check(self, generation: Generation) -> Runnable:
        """Raises PatternError with all that is wrong; problems of a pattern are raised one pattern at a time."""
        used: dict[object, CheckedPattern] = {}
        declared = {stream.name: stream for stream in map(self._stream, generation.streams)}
        params = {name: self._param(text).value for name, text in generation.params.items()}
        streams: dict[str, ast.Stream] = dict(declared)
        lives = [member for member in generation.members if member.role == "live"]
        others = [member for member in generation.members if member.role != "live"]
        trees = {id(tree): (member, tree) for member in lives for tree in (self._tree(member),)}
        program = ast.Program((*declared.values(), *(tree for _, tree in trees.values())))
        found = ProgramProblems(program)
        made: dict[str, CheckedPattern] = {}
        for tree in order_of_patterns(program, found):
            member = trees[id(tree)][0]
            checked = self._check(member, tree, streams, params, used, found)
            if checked is None:
                continue
            made[member.name] = checked
            for emitted in (checked.output_stream, checked.timeouts_stream):
                if emitted is not None:
                    found.add_emitted(tree, emitted, streams)
        for member in others:
            tree = self._apart(member, streams, params)
            checked = self._check(member, tree, streams, params, used, found)
            if checked is not None:
                made[member.name] = checked
                for emitted in (checked.output_stream, checked.timeouts_stream):
                    if emitted is not None:
                        streams.setdefault(emitted.name, emitted)
        if found.problems:
            raise PatternError(found.problems)
        self._forget(generation, used)
        in_order = {member.name: made[member.name] for member in generation.members}
        return Runnable(
            generation,
            in_order,
            _plan_of(in_order, declared, streams),
            frozenset(member.name for member in others if member.role == "draining"),
            declared,
        )

    def without(self, generation: Generation, names: Collection[str]) -> tuple[Generation, list[str]]:
        """The generation without some members, by engine name, and without those that read what nobody emits then;
        with the names of all that are gone."""
        declared = {self._stream(text).name for text in generation.streams}
        left = [member for member in generation.members if member.name not in names]
        while True:
            emitted = {stream_of(name) for member in left for name in self._emits(member)}
            fed = [member for member in left if self._tree(member).on in declared | emitted]
            if len(fed) == len(left):
                break
            left = fed
        kept = {member.name for member in left}
        gone = [member.name for member in generation.members if member.name not in kept]
        return msgspec.structs.replace(generation, members=tuple(left), renamed={}, dropped=()), gone

    def _emits(self, member: Member) -> list[str]:
        """The streams of a member's rows, as far as others can read them: as `check` has it, those of live ones."""
        if member.role != "live":
            return []
        tree = self._tree(member)
        return [name for name in (tree.into or member.pattern, tree.timeouts_into) if name is not None]

    def _check(
        self,
        member: Member,
        tree: ast.Pattern,
        streams: Mapping[str, ast.Stream],
        params: Mapping[str, ast.Literal],
        used: dict[object, CheckedPattern],
        found: ProgramProblems,
    ) -> CheckedPattern | None:
        source = streams.get(tree.on)
        if source is None:
            found.unknown_source(tree, streams)
            return None
        own = {name: params[name] for name in self._parsed[member.text].params if name in params}
        key = (member.text, tree.name, tree.into, tree.timeouts_into, source, *own.items())
        checked = self._checked.get(key)
        if checked is None:
            checked = check_pattern(tree, source, own)
        used[key] = checked
        return checked

    def _apart(
        self, member: Member, streams: Mapping[str, ast.Stream], params: Mapping[str, ast.Literal]
    ) -> ast.Pattern:
        """The tree of a member beside the live ones: where its rows are of another shape than those of the stream that
        they would go to, and where they are to go elsewhere, they get a stream of their own."""
        tree = self._tree(member)
        into = tree.into or member.pattern
        if member.role == "shadow":
            timeouts = None if tree.timeouts_into is None else f"{tree.timeouts_into}.{SHADOW}"
            return replace(tree, into=f"{into}.{SHADOW}", timeouts_into=timeouts)
        tree = replace(tree, into=into)
        source = streams.get(tree.on)
        if source is None:
            return tree
        own = {name: params[name] for name in self._parsed[member.text].params if name in params}
        emitted = check_pattern(tree, source, own).output_stream
        if _shape(streams.get(into, emitted)) != _shape(emitted):
            tree = replace(tree, into=f"{into}@{member.since}")
        late = tree.timeouts_into
        if late is not None and _shape(streams.get(late, emitted)) != _shape(emitted):
            tree = replace(tree, timeouts_into=f"{late}@{member.since}")
        return tree

    def _tree(self, member: Member) -> ast.Pattern:
        parsed = self._parsed.get(member.text)
        if parsed is None:
            program = parse_program(member.text, member.pattern)
            tree = program.patterns[0]
            parsed = self._parsed[member.text] = _Parsed(tree, ast.params_of(tree))
        tree = parsed.tree
        if tree.name == member.name:
            return tree
        return replace(tree, name=member.name, into=tree.into or member.pattern)

    def _stream(self, text: str) -> ast.Stream:
        stream = self._streams.get(text)
        if stream is None:
            # events come from the journal as JSON, wherever they were before
            stream = journal_form(parse_program(text).streams[0])
            problems = list(stream_problems(stream))
            if problems:
                raise PatternError(problems)
            self._streams[text] = stream
        return stream

    def _param(self, text: str) -> ast.ParamDecl:
        found = self._params.get(text)
        if found is None:
            found = self._params[text] = parse_program(text).params[0]
        return found

    def _forget(self, generation: Generation, used: dict[object, CheckedPattern]) -> None:
        """Only what the generation has is likely to be asked for again."""
        self._checked = used
        texts = {member.text for member in generation.members}
        self._parsed = {text: parsed for text, parsed in self._parsed.items() if text in texts}
        self._streams = {text: self._streams[text] for text in generation.streams}
        self._params = {text: self._params[text] for text in generation.params.values()}


def is_alike(before: ast.Stream, after: ast.Stream) -> bool:
    """Can what is kept of the one go on with the other? Columns may come and go; key and types may not change."""
    if before is after:
        return True
    new = {column.name: column.type for column in after.columns}
    same = all(new[column.name] == column.type for column in before.columns if column.name in new)
    return same and before.keys == after.keys


def stream_of(name: str) -> str:
    """The stream that rows are of for the world outside: without the version of one that drains.

    >>> stream_of("alerts@3"), stream_of("alerts.shadow")
    ('alerts', 'alerts.shadow')
    """
    return name.rpartition("@")[0] or name


def _shape(stream: ast.Stream) -> list[tuple[str, object, bool]]:
    return [(column.name, column.type, column.key) for column in stream.columns]


def _plan_of(
    checked: Mapping[str, CheckedPattern], declared: Mapping[str, ast.Stream], streams: Mapping[str, ast.Stream]
) -> Plan | None:
    if not checked:
        return None
    outputs = tuple(ast.OutputDecl(name, _NOWHERE) for name in streams if name not in declared)
    return plan(CheckedProgram(tuple(checked.values()), dict(streams), outputs))
