"""Three-valued logic and choice, a whole column at once. Every function takes and gives vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ostinato.cep.batch import BoolArray, IntArray, Strings, Vector, concat_vectors
from ostinato.patterns.types import BOOLEAN, DataType


def both(left: BoolArray | None, right: BoolArray | None) -> BoolArray | None:
    """Where both are valid; None is everywhere."""
    if left is None:
        return right
    return left if right is None else left & right


def known(vector: Vector) -> BoolArray:
    return np.ones(len(vector), np.bool_) if vector.valid is None else vector.valid


def conjunction(left: Vector, right: Vector) -> Vector:
    truth = left.array & right.array
    if left.valid is None and right.valid is None:
        return Vector(BOOLEAN, truth)
    falsehood = (known(left) & ~left.array) | (known(right) & ~right.array)
    return Vector(BOOLEAN, truth, truth | falsehood)


def disjunction(left: Vector, right: Vector) -> Vector:
    truth = left.array | right.array
    if left.valid is None and right.valid is None:
        return Vector(BOOLEAN, truth)
    return Vector(BOOLEAN, truth, truth | (known(left) & known(right)))


def negation(vector: Vector) -> Vector:
    return Vector(BOOLEAN, is_false(vector).array, vector.valid)


def is_null(vector: Vector) -> Vector:
    return Vector(BOOLEAN, np.zeros(len(vector), np.bool_) if vector.valid is None else ~vector.valid)


def is_true(vector: Vector) -> Vector:
    return Vector(BOOLEAN, vector.array)


def is_false(vector: Vector) -> Vector:
    return Vector(BOOLEAN, ~vector.array if vector.valid is None else ~vector.array & vector.valid)


def distinct(left: Vector, right: Vector, unequal: Vector) -> Vector:
    """IS DISTINCT FROM, given ``left <> right``, which is False where either is null."""
    if left.valid is None and right.valid is None:
        return unequal
    return Vector(BOOLEAN, unequal.array | (known(left) != known(right)))


def coalesce(left: Vector, right: Vector) -> Vector:
    return left if left.valid is None else choose(left.type, [left.valid], [left], right)


def choose(type_: DataType, conditions: Sequence[BoolArray], values: Sequence[Vector], otherwise: Vector) -> Vector:
    """In each row the value of the first condition that holds there."""
    valid = None
    if any(part.valid is not None for part in (*values, otherwise)):
        valid = known(otherwise)
        for condition, part in zip(reversed(conditions), reversed(values), strict=True):
            valid = np.where(condition, known(part), valid)
    if isinstance(otherwise.values, Strings):
        return Vector(type_, _choose_texts(conditions, [*values, otherwise]), valid)
    result = otherwise.values
    for condition, part in zip(reversed(conditions), reversed(values), strict=True):
        result = np.where(condition, part.array, result)
    return Vector(type_, result, valid)


def _choose_texts(conditions: Sequence[BoolArray], parts: Sequence[Vector]) -> Strings:
    rows = len(parts[0])
    source = np.full(rows, len(conditions), np.int64)
    for at in range(len(conditions) - 1, -1, -1):
        source[conditions[at]] = at
    texts = concat_vectors([Vector(part.type, part.values) for part in parts]).strings
    return texts.take(source * rows + np.arange(rows))


def constant(type_: DataType, value: object, rows: int) -> Vector:
    """A column that holds one physical value in every row."""
    one = Vector.of(type_, [value])
    nowhere: IntArray = np.zeros(rows, np.int64)
    return one.take(nowhere)
