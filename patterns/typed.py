"""The typed expression: what the type checker hands to everything that evaluates.

Evaluators see only this form. Every implicit conversion is an explicit ``cast``; both sides of a comparison, both
operands of arithmetic, every branch of a ``case`` have one type; sugar (``between``, ``nullif``, ``if``) is gone; a
column of the stage being decided is a column of the event in hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ostinato.patterns.types import DataType


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal in the physical form of its type; None is NULL. DECIMAL is unscaled."""

    type: DataType
    value: Any


@dataclass(frozen=True, slots=True)
class Current:
    """A column of the event in hand."""

    type: DataType
    name: str


@dataclass(frozen=True, slots=True)
class Matched:
    """What the events matched so far for `stage` give: ``count sum avg min max first last`` of column `name`.

    In outputs also ``collect collect_distinct`` (an array of the values that are not NULL, in match order; distinct:
    each once, where it comes first), and ``start end`` with an empty stage: times of the whole match.
    ``count`` without a name counts events. `offset` is that of first and last. ``a.x`` of another stage is
    ``last(a.x)``.
    """

    type: DataType
    function: str
    stage: str
    name: str | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of the typed arguments, by its canonical name."""

    type: DataType
    function: str
    args: tuple[Typed, ...]


@dataclass(frozen=True, slots=True)
class Opaque:
    """A Python function; `iterative` ones also get the context of the partial match."""

    type: DataType
    function: Callable[..., Any]
    iterative: bool = False


Typed: TypeAlias = Constant | Current | Matched | Apply | Opaque


def nodes(expr: Typed) -> Iterator[Typed]:
    """The expression and all below it, parents first."""
    yield expr
    if isinstance(expr, Apply):
        for arg in expr.args:
            yield from nodes(arg)


def is_iterative(expr: Typed) -> bool:
    """Does its value depend on the partial match?"""
    return any(isinstance(node, Matched) or (isinstance(node, Opaque) and node.iterative) for node in nodes(expr))


def columns_of(expr: Typed) -> set[str]:
    """The columns of the event in hand that it reads (an opaque function may read any)."""
    return {node.name for node in nodes(expr) if isinstance(node, Current)}
