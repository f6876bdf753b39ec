"""Functions of texts, a whole column at once: kernels where there are any, else Python once per distinct text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ostinato.cep import strings
from ostinato.cep.batch import BoolArray, Strings, Vector
from ostinato.cep.expressions.vector_logic import both
from ostinato.patterns.typed import Apply, Constant
from ostinato.patterns.types import BOOLEAN, STRING, DataType

Argument = Vector | Constant

FEW = 6
"""So many texts are compared with one by one; for more, rows are numbered by their text first."""


def compare(name: str, args: Sequence[Argument]) -> Vector:
    """``EQ NE text_lt text_le`` of texts that are not both constant; no constant is NULL."""
    left, right = args
    if isinstance(left, Constant):
        assert isinstance(right, Vector), "comparisons of constants are folded"
        if name in ("text_lt", "text_le"):
            # c < x is x > c, which is not x <= c.
            opposite = compare("text_le" if name == "text_lt" else "text_lt", (right, left))
            return _masked(~opposite.array, right.valid)
        left, right = right, left
    if isinstance(right, Constant):
        other: Strings | str = right.value
        valid = left.valid
    else:
        other = right.strings
        valid = both(left.valid, right.valid)
    if name in ("EQ", "NE"):
        if isinstance(other, str):
            equal = strings.equals(left.strings, other)
        else:
            equal = strings.equals_each(left.strings, other)
        return _masked(~equal if name == "NE" else equal, valid)
    order = strings.compare(left.strings, other)
    return _masked(order < 0 if name == "text_lt" else order <= 0, valid)


def one_of(vector: Vector, texts: Sequence[str]) -> BoolArray:
    """Which rows hold one of the texts?"""
    if len(texts) <= FEW:
        found = np.zeros(len(vector), np.bool_)
        for text in texts:
            found |= strings.equals(vector.strings, text)
        return found
    wanted = strings.Interner(len(texts))
    wanted.intern(Strings.of(texts))
    return wanted.find(vector.strings) >= 0


def fast(expr: Apply, args: Sequence[Argument]) -> Vector | None:
    """What a kernel can do: prefixes, suffixes, and LIKE patterns that ask for no more. None if none can."""
    text, *rest = args
    if not isinstance(text, Vector) or len(rest) != 1 or not isinstance(rest[0], Constant):
        return None
    wanted = rest[0].value
    found: BoolArray | None = None
    if expr.function == "starts_with":
        found = strings.starts_with(text.strings, wanted)
    elif expr.function == "ends_with":
        found = strings.ends_with(text.strings, wanted)
    elif expr.function == "like":
        found = _like(text.strings, wanted)
    return None if found is None else _masked(found, text.valid)


def _like(texts: Strings, pattern: str) -> BoolArray | None:
    inner = pattern.strip("%")
    if "%" in inner or "_" in inner:
        return None
    if not inner:
        return np.ones(len(texts), np.bool_) if pattern else strings.equals(texts, "")
    if pattern.startswith("%"):
        return strings.contains(texts, inner) if pattern.endswith("%") else strings.ends_with(texts, inner)
    return strings.starts_with(texts, inner) if pattern.endswith("%") else strings.equals(texts, inner)


def per_distinct(type_: DataType, function: Callable[..., Any], args: Sequence[Argument], at: int) -> Vector:
    """A function of one text column, the argument `at`, and constants: called once for each distinct text."""
    column = args[at]
    assert isinstance(column, Vector), "the argument is a column"
    interner = strings.Interner()
    codes = interner.intern(column.strings, column.valid)
    values = [arg.value if isinstance(arg, Constant) else None for arg in args]
    results = []
    for text in interner.strings().to_list():
        values[at] = text
        results.append(function(*values))
    # Code -1, a null, finds this one at the end.
    values[at] = None
    results.append(function(*values))
    return Vector.of(type_, results).take(codes)


def text_columns(args: Sequence[Argument]) -> list[int]:
    """Which arguments are columns, if all of these hold texts; else none."""
    columns = [at for at, arg in enumerate(args) if isinstance(arg, Vector)]
    return columns if all(args[at].type == STRING for at in columns) else []


def _masked(truth: BoolArray, valid: BoolArray | None) -> Vector:
    return Vector(BOOLEAN, truth if valid is None else truth & valid, valid)
