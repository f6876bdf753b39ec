"""The pattern language: text, syntax tree, types and checks.

Names are imported when they are first used, so that ``import ostinato.patterns`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostinato.patterns.errors import MalformedPatternError, PatternError, Problem, Span
    from ostinato.patterns.parser import parse_expression, parse_match, parse_program, parse_skip, parse_type

_HOMES = {
    "MalformedPatternError": "errors",
    "PatternError": "errors",
    "Problem": "errors",
    "Span": "errors",
    "parse_expression": "parser",
    "parse_match": "parser",
    "parse_program": "parser",
    "parse_skip": "parser",
    "parse_type": "parser",
}

__all__ = [
    "MalformedPatternError",
    "PatternError",
    "Problem",
    "Span",
    "parse_expression",
    "parse_match",
    "parse_program",
    "parse_skip",
    "parse_type",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
