"""A file taken apart into declarations, each as canonical text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ostinato.patterns import ast
from ostinato.patterns.parser import parse_program
from ostinato.patterns.printer import print_pattern, print_program
from ostinato.patterns.rewrite import bind_params, stream_columns
from ostinato.patterns.types import DataType
from ostinato.server.failures import RefusedError
from ostinato.server.ingest.dead_letters import DEAD_LETTERS

MOST_DECLARATIONS: Final = 4_000
"""Of one text: more would keep everybody waiting who makes a change meanwhile."""
_BEGINNING = re.compile(r"^[ \t]*(?:pattern|stream|param)[ \t]", re.MULTILINE)


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_OWN: Final = (".late", ".shadow")


@dataclass(frozen=True, slots=True)
class PatternText:
    """A pattern; `text` names parameters as they were written, `engine_text` as ``$name``, so that it stands alone."""

    tree: ast.Pattern
    text: str
    engine_text: str


@dataclass(frozen=True, slots=True)
class Texts:
    """What a file declares, by name."""

    streams: dict[str, tuple[ast.Stream, str]]
    params: dict[str, tuple[ast.ParamDecl, str]]
    patterns: dict[str, PatternText]
    outputs: tuple[ast.OutputDecl, ...]


def take_apart(text: str, filename: str, known: Sequence[ast.Stream | ast.ParamDecl]) -> Texts:
    """`known`: streams and parameters that the server has, which names in the file may mean.

    Raises:
        PatternError: something is wrong in it.
        RefusedError: it declares too much.
    """
    # most texts that declare far too much need not even be read for that
    _check_count(len(_BEGINNING.findall(text)), filename)
    program = parse_program(text, filename)
    _check_count(len(program.declarations), filename)
    declared: list[ast.Stream | ast.ParamDecl] = [*program.streams, *program.params]
    own = {(type(each), each.name) for each in declared}
    borrowed = [each for each in known if (type(each), each.name) not in own]
    whole = bind_params(ast.Program((*borrowed, *program.declarations)))
    params = frozenset(param.name for param in whole.params)
    patterns = {}
    # looked up once for all that read a stream: there may be very many
    columns_of: dict[str, frozenset[str]] = {}
    for pattern in whole.patterns:
        if pattern.on not in columns_of:
            columns_of[pattern.on] = stream_columns(whole, pattern.on)
        shown = print_pattern(pattern, params - columns_of[pattern.on])
        patterns[pattern.name] = PatternText(pattern, shown, print_pattern(pattern))
    for stream in program.streams:
        check_name(stream.name, "stream")
    for param in program.params:
        check_name(param.name, "parameter")
    for pattern in program.patterns:
        check_name(pattern.name, "pattern")
        for emitted in (pattern.into, pattern.timeouts_into):
            if emitted is not None:
                check_name(emitted, "stream")
    return Texts(
        {stream.name: (stream, alone(stream)) for stream in program.streams},
        {param.name: (param, alone(param)) for param in program.params},
        patterns,
        program.outputs,
    )


def _check_count(count: int, filename: str) -> None:
    if count > MOST_DECLARATIONS:
        raise RefusedError(
            f"{filename} declares {count:,} streams, parameters and patterns; {MOST_DECLARATIONS:,} are the most at "
            "once: send them in several files"
        )


def check_name(name: str, what: str) -> None:
    """Refuse names that the API's addresses do not take, and those that the server gives. Raises RefusedError."""
    if not _NAME.fullmatch(name):
        raise RefusedError(
            f"{what} `{name}`: on a server a name has letters, digits, `_`, `-` and `.`, begins with a letter or `_`, "
            "and has at most 128 characters"
        )
    if name == DEAD_LETTERS or name.endswith(_OWN):
        raise RefusedError(f"{what} `{name}`: such names are the server's own; choose another")


def alone(declaration: ast.Declaration) -> str:
    """A declaration as text, without the line end."""
    return print_program(ast.Program((declaration,))).strip()


def stream_in(text: str) -> ast.Stream:
    """The stream of a text that `alone` made."""
    return parse_program(text).streams[0]


def param_in(text: str) -> ast.ParamDecl:
    """The parameter of a text that `alone` made."""
    return parse_program(text).params[0]


@lru_cache(maxsize=4096)
def params_in(engine_text: str) -> frozenset[str]:
    """The parameters that a pattern's text names."""
    return ast.params_of(parse_program(engine_text).patterns[0])


def columns(stream: ast.Stream) -> dict[str, tuple[DataType, bool]]:
    """Name -> type, and whether it is of the key."""
    return {column.name: (column.type, column.key) for column in stream.columns}
