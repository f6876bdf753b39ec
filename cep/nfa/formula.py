"""Boolean formulas over the conditions of a pattern: the guards of an automaton's edges.

An atom is the name of a condition. A guard is brought into disjunctive normal form, so that the kernel decides it by
comparing an event's bits with a few masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Atom:
    """A condition: the `where` of a stage, or the `until` of a stage or of a group."""

    kind: str
    owner: str

    def __str__(self) -> str:
        return self.owner if self.kind == "where" else f"{self.kind} {self.owner}"


@dataclass(frozen=True, slots=True)
class Not:
    operand: Formula


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Formula, ...]


Formula: TypeAlias = bool | Atom | Not | And | Or
Term: TypeAlias = frozenset[tuple[Atom, bool]]
"""A conjunction: each atom with the truth value it must have."""

MAX_TERMS = 256
"""A guard of more terms than this is refused: no pattern written by a person comes near it."""


class GuardTooComplexError(ValueError):
    """The conditions of an edge do not fit the kernel's masks."""


def conjunction(operands: Iterable[Formula]) -> Formula:
    """And, with constants folded."""
    kept = []
    for operand in operands:
        if operand is False:
            return False
        if operand is not True:
            kept.append(operand)
    if not kept:
        return True
    return kept[0] if len(kept) == 1 else And(tuple(kept))


def disjunction(operands: Iterable[Formula]) -> Formula:
    """Or, with constants folded."""
    kept = []
    for operand in operands:
        if operand is True:
            return True
        if operand is not False:
            kept.append(operand)
    if not kept:
        return False
    return kept[0] if len(kept) == 1 else Or(tuple(kept))


def negation(operand: Formula) -> Formula:
    """Not, with constants and double negation folded."""
    if isinstance(operand, bool):
        return not operand
    return operand.operand if isinstance(operand, Not) else Not(operand)


def terms(formula: Formula) -> tuple[Term, ...]:
    """The formula as a disjunction of conjunctions, without contradictions and without terms another covers.

    >>> a, b = Atom("where", "a"), Atom("where", "b")
    >>> len(terms(Not(And((a, b))))), terms(And((a, Not(a))))
    (2, ())
    """
    return _reduce(_expand(formula, True))


def evaluate(formula: Formula, value: Callable[[Atom], bool]) -> bool:
    """The formula's truth where `value` gives that of each atom."""
    return any(all(value(atom) == wanted for atom, wanted in term) for term in terms(formula))


def text(formula: Formula) -> str:
    """The formula as a reader would write it.

    >>> text(And((Atom("where", "a"), Not(Atom("until", "a")))))
    'a and not (until a)'
    """
    if isinstance(formula, bool):
        return "true" if formula else "false"
    if isinstance(formula, Atom):
        return str(formula)
    if isinstance(formula, Not):
        inner = text(formula.operand)
        return f"not {inner}" if " " not in inner else f"not ({inner})"
    word = " and " if isinstance(formula, And) else " or "
    return word.join(
        f"({text(operand)})" if isinstance(operand, And | Or) else text(operand) for operand in formula.operands
    )


def _expand(formula: Formula, positive: bool) -> set[Term]:
    if isinstance(formula, bool):
        return {frozenset()} if formula == positive else set()
    if isinstance(formula, Atom):
        return {frozenset([(formula, positive)])}
    if isinstance(formula, Not):
        return _expand(formula.operand, not positive)
    parts = [_expand(operand, positive) for operand in formula.operands]
    if isinstance(formula, And) != positive:
        return set().union(*parts)
    product: set[Term] = {frozenset()}
    for part in parts:
        product = {left | right for left in product for right in part if not _contradict(left, right)}
        if len(product) > MAX_TERMS:
            raise GuardTooComplexError(f"a guard has more than {MAX_TERMS} alternatives")
    return product


def _contradict(left: Term, right: Term) -> bool:
    return any((atom, not wanted) in right for atom, wanted in left)


def _reduce(found: set[Term]) -> tuple[Term, ...]:
    kept: list[Term] = []
    for term in sorted(found, key=lambda term: (len(term), sorted(f"{a.kind} {a.owner} {w}" for a, w in term))):
        if not any(smaller <= term for smaller in kept):
            kept.append(term)
    return tuple(kept)
