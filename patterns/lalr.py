"""The automaton that reads tokens by the tables of the grammar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ostinato.patterns.lexer import Token
from ostinato.patterns.tables import Rule, Tables

END = "$END"
"""The terminal behind the last token."""


class Builder(Protocol):
    """Makes values of what was read."""

    def reduce(self, action: str, values: list[Any]) -> Any:
        """The value of a rule, given those of its parts."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """Reading could not go on: token `index` does not fit; `expected` terminals would have."""

    index: int
    expected: frozenset[str]


def read(tables: Tables, start: str, tokens: Sequence[Token], builder: Builder) -> Any | Stuck:
    """The value of a whole token sequence, or where reading got stuck."""
    states = [tables.starts[start]]
    values: list[Any] = []
    end = tables.ends[start]
    table, rules = tables.states, tables.rules
    for token in (*tokens, None):
        terminal = END if token is None else token.type
        while True:
            action = table[states[-1]].get(terminal)
            if action is None:
                return _stuck(tables, start, tokens)
            if action >= 0:
                states.append(action)
                values.append(token)
                break
            rule = rules[-action - 1]
            parts = _popped(values, rule.size)
            if rule.size:
                del states[-rule.size :]
            values.append(_value(rule, parts, builder))
            states.append(table[states[-1]][rule.origin])
            if token is None and states[-1] == end:
                return values[-1]
    raise AssertionError("the last token is taken or refused")


def accepts(tables: Tables, start: str, tokens: Iterable[Token]) -> int:
    """How many of the tokens can be read, from the first on."""
    states = [tables.starts[start]]
    count = 0
    for token in tokens:
        following = _shifted(tables, states, token.type, tables.ends[start])
        if following is None:
            return count
        states = following
        count += 1
    return count


class _Parts(list[Any]):
    """The values of an inline rule, on their way into the rule above."""


def _popped(values: list[Any], size: int) -> list[Any]:
    """The last `size` values, taken off, with those of inline rules spliced in."""
    parts: list[Any] = []
    if size:
        for value in values[-size:]:
            if isinstance(value, _Parts):
                parts += value
            else:
                parts.append(value)
        del values[-size:]
    return parts


def _value(rule: Rule, parts: list[Any], builder: Builder) -> Any:
    if rule.inline:
        return _Parts(parts)
    if rule.transparent and len(parts) == 1:
        return parts[0]
    return builder.reduce(rule.action, parts)


def _stuck(tables: Tables, start: str, tokens: Sequence[Token]) -> Stuck:
    """The first token that does not fit, and what would have.

    LALR tables may reduce before they find out that a token is wrong; here each is tried before the stack changes.
    """
    end = tables.ends[start]
    states = [tables.starts[start]]
    taken = 0
    for token in (*tokens, None):
        following = _shifted(tables, states, END if token is None else token.type, end)
        if following is None:
            break
        states = following
        taken += 1
    row = tables.states[states[-1]]
    terminals = [name for name in row if name == END or name.isupper()]
    return Stuck(taken, frozenset(name for name in terminals if _shifted(tables, states, name, end) is not None))


def _shifted(tables: Tables, states: list[int], terminal: str, end: int) -> list[int] | None:
    """The states once a terminal was taken; None if it does not fit. The given ones stay as they are."""
    states = states.copy()
    while True:
        action = tables.states[states[-1]].get(terminal)
        if action is None:
            return None
        if action >= 0:
            states.append(action)
            return states
        rule = tables.rules[-action - 1]
        if rule.size:
            del states[-rule.size :]
        states.append(tables.states[states[-1]][rule.origin])
        if terminal == END and states[-1] == end:
            return states
