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


class _Parts(list[Any]):
    """The values of an inline rule, on their way into the rule above."""


class Parser:
    """One reading of a token sequence from a start symbol."""

    def __init__(self, tables: Tables, start: str, builder: Builder | None) -> None:
        self._tables = tables
        self._builder = builder
        self._end = tables.ends[start]
        self._states = [tables.starts[start]]
        self._values: list[Any] = []

    def feed(self, terminal: str, token: Token | None) -> bool:
        """Take one token; False, with everything as it was before, if it does not fit."""
        if not self._fits(terminal):
            return False
        states = self._tables.states
        while True:
            action = states[self._states[-1]][terminal]
            if action >= 0:
                self._states.append(action)
                self._values.append(token)
                return True
            self._reduce(self._tables.rules[-action - 1])
            if terminal == END and self._states[-1] == self._end:
                return True

    @property
    def result(self) -> Any:
        """The value of the start symbol, once END was taken."""
        return self._values[-1]

    def expected(self) -> frozenset[str]:
        """The terminals that fit here."""
        row = self._tables.states[self._states[-1]]
        return frozenset(name for name in row if name.isupper() or name == END if self._fits(name))

    def _fits(self, terminal: str) -> bool:
        """Would the terminal be shifted (after reductions that the tables allow on it)?

        LALR tables may reduce before they find out that a token is wrong; looking first keeps the stack as it was.
        """
        states = self._states.copy()
        while True:
            action = self._tables.states[states[-1]].get(terminal)
            if action is None:
                return False
            if action >= 0:
                return True
            rule = self._tables.rules[-action - 1]
            if rule.size:
                del states[-rule.size :]
            states.append(self._tables.states[states[-1]][rule.origin])
            if terminal == END and states[-1] == self._end:
                return True

    def _reduce(self, rule: Rule) -> None:
        parts: list[Any] = []
        if rule.size:
            for value in self._values[-rule.size :]:
                if isinstance(value, _Parts):
                    parts += value
                else:
                    parts.append(value)
            del self._values[-rule.size :]
            del self._states[-rule.size :]
        self._values.append(self._value(rule, parts))
        self._states.append(self._tables.states[self._states[-1]][rule.origin])

    def _value(self, rule: Rule, parts: list[Any]) -> Any:
        if rule.inline:
            return _Parts(parts)
        if rule.transparent and len(parts) == 1:
            return parts[0]
        return self._builder.reduce(rule.action, parts) if self._builder is not None else None


def read(tables: Tables, start: str, tokens: Sequence[Token], builder: Builder | None) -> Any | Stuck:
    """The value of a whole token sequence, or where reading got stuck."""
    parser = Parser(tables, start, builder)
    for index, token in enumerate(tokens):
        if not parser.feed(token.type, token):
            return Stuck(index, parser.expected())
    if not parser.feed(END, None):
        return Stuck(len(tokens), parser.expected())
    return parser.result


def accepts(tables: Tables, start: str, tokens: Iterable[Token]) -> int:
    """How many of the tokens can be read, from the first on."""
    parser = Parser(tables, start, None)
    count = 0
    for token in tokens:
        if not parser.feed(token.type, token):
            return count
        count += 1
    return count
