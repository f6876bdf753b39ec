"""The pattern language: text, syntax tree, types and checks.

Names are imported when they are first used, so that ``import ostinato.patterns`` costs next to nothing. The nodes of
the syntax tree are in `ostinato.patterns.ast`, typed expressions in `ostinato.patterns.typed`, types in
`ostinato.patterns.types`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostinato.patterns.checks import check_structure
    from ostinato.patterns.errors import MalformedPatternError, PatternError, Problem, Span
    from ostinato.patterns.formatting import format_source
    from ostinato.patterns.literals import format_duration, parse_duration
    from ostinato.patterns.parser import parse_expression, parse_match, parse_program, parse_skip, parse_type
    from ostinato.patterns.printer import print_expression, print_match, print_pattern, print_program, print_type
    from ostinato.patterns.typecheck import (
        CheckedPattern,
        CheckedProgram,
        Scope,
        check_pattern,
        check_program,
        type_expr,
    )

_HOMES = {
    "checks": ("check_structure",),
    "errors": ("MalformedPatternError", "PatternError", "Problem", "Span"),
    "formatting": ("format_source",),
    "literals": ("format_duration", "parse_duration"),
    "parser": ("parse_expression", "parse_match", "parse_program", "parse_skip", "parse_type"),
    "printer": ("print_expression", "print_match", "print_pattern", "print_program", "print_type"),
    "typecheck": ("CheckedPattern", "CheckedProgram", "Scope", "check_pattern", "check_program", "type_expr"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CheckedPattern",
    "CheckedProgram",
    "MalformedPatternError",
    "PatternError",
    "Problem",
    "Scope",
    "Span",
    "check_pattern",
    "check_program",
    "check_structure",
    "format_duration",
    "format_source",
    "parse_duration",
    "parse_expression",
    "parse_match",
    "parse_program",
    "parse_skip",
    "parse_type",
    "print_expression",
    "print_match",
    "print_pattern",
    "print_program",
    "print_type",
    "type_expr",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
