"""From the text of a backtest to what its two sides run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ostinato.patterns import ast
from ostinato.patterns.errors import PatternError, did_you_mean
from ostinato.patterns.parser import parse_program
from ostinato.patterns.resolve import literal_of
from ostinato.patterns.typecheck import check_program
from ostinato.server.catalog.definitions import Body
from ostinato.server.changes.texts import alone, param_in, stream_in, take_apart
from ostinato.server.failures import RefusedError
from ostinato.server.live.generation import Generation, Member

FILENAME = "<backtest>"


@dataclass(frozen=True, slots=True)
class Sides:
    """What is run.

    Attributes:
        here: the patterns of the text, and of those that run what feeds them.
        live: the versions that run of the same patterns, and what feeds them; None where there is none.
        patterns: those of the text.
        sources: the streams that are read from outside, by either side, with the sources that are declared.
    """

    here: Generation
    live: Generation | None
    patterns: tuple[str, ...]
    sources: Mapping[str, ast.Stream]


def plan_sides(text: str, params: Mapping[str, str], body: Body, *, compare: bool) -> Sides:
    """Check the text against what is declared.

    The server's streams and parameters are there, with the values that hold now; where the text declares one itself,
    that counts, and values in `params` count before all.

    Raises:
        PatternError: something is wrong in it.
        RefusedError: there is no pattern in it; or a parameter is not there, or of another type.
    """
    generation = body.generation
    held_streams = {stream.name: stream for stream in map(stream_in, generation.streams)}
    held_params = {name: param_in(declared) for name, declared in generation.params.items()}
    texts = take_apart(text, FILENAME, [*held_streams.values(), *held_params.values()])
    if not texts.patterns:
        raise RefusedError("there is no pattern in the text")
    streams = held_streams | {name: stream for name, (stream, _) in texts.streams.items()}
    declared = held_params | {name: param for name, (param, _) in texts.params.items()}
    for name, value in params.items():
        if name not in declared:
            hint = did_you_mean(name, declared) or "declare it in the text"
            raise RefusedError(f"there is no parameter `{name}`; {hint}")
        try:
            declared[name] = ast.ParamDecl(name, literal_of(value, declared[name].value.type))
        except ValueError as error:
            raise RefusedError(f"parameter `{name}` is {declared[name].value.type}: {error}") from error
    lives = {member.pattern: member for member in generation.members if member.role == "live"}
    trees = {name: parse_program(member.text, name).patterns[0] for name, member in lives.items()}
    own = {name: each.tree for name, each in texts.patterns.items()}
    feeding = _feeding(own, {name: tree for name, tree in trees.items() if name not in own}, streams)
    program = ast.Program(
        (*streams.values(), *declared.values(), *(trees[name] for name in feeding), *own.values()),
    )
    try:
        check_program(program, {})
    except PatternError as error:
        raise error.located(text, FILENAME) from None
    here = Generation(
        1,
        tuple(alone(stream) for stream in streams.values()),
        {name: alone(param) for name, param in declared.items()},
        (
            *(lives[name] for name in feeding),
            *(Member(name, _version(name, lives), "live", each.engine_text) for name, each in texts.patterns.items()),
        ),
    )
    live = None
    compared = [name for name in own if name in lives]
    if compare and compared:
        upstream = _feeding({name: trees[name] for name in compared}, trees, held_streams)
        kept = [name for name in lives if name in compared or name in upstream]
        live = Generation(1, generation.streams, generation.params, tuple(lives[name] for name in kept))
    sources = _sources([*own.values(), *(trees[name] for name in feeding)], streams)
    if live is not None:
        sources = _sources([trees[member.pattern] for member in live.members], held_streams) | sources
    return Sides(here, live, tuple(own), sources)


def _sources(trees: Sequence[ast.Pattern], streams: Mapping[str, ast.Stream]) -> dict[str, ast.Stream]:
    """Declared streams that patterns read and none of them makes."""
    made = {name for tree in trees for name in (tree.into or tree.name, tree.timeouts_into)}
    return {tree.on: streams[tree.on] for tree in trees if tree.on in streams and tree.on not in made}


def _version(name: str, lives: Mapping[str, Member]) -> int:
    return lives[name].version + 1 if name in lives else 1


def _feeding(
    wanted: Mapping[str, ast.Pattern], others: Mapping[str, ast.Pattern], streams: Iterable[str]
) -> dict[str, None]:
    """Of other patterns those whose matches the wanted ones read, directly or not, by name and in their order."""
    declared = set(streams)
    makers: dict[str, list[str]] = {}
    for name, tree in others.items():
        for made in (tree.into or name, tree.timeouts_into):
            if made is not None:
                makers.setdefault(made, []).append(name)
    own = {made for name, tree in wanted.items() for made in (tree.into or name, tree.timeouts_into)}
    found: set[str] = set()
    open_ = [tree.on for tree in wanted.values()]
    while open_:
        stream = open_.pop()
        if stream in declared or (stream in own and stream not in makers):
            continue
        for name in makers.get(stream, ()):
            if name not in found and name not in wanted:
                found.add(name)
                open_.append(others[name].on)
    return dict.fromkeys(name for name in others if name in found)
