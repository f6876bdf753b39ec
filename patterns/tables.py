"""The parser's tables: what lark makes of the grammar, kept beside it as plain JSON.

Working out the LALR tables takes lark half a second; reading them takes a few milliseconds. So they are stored in
``grammar/tables.json`` together with the grammar they are of, and are worked out anew wherever that is another one.
After a change of the grammar write the file again::

    python -m ostinato.patterns.tables
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

GRAMMAR = Path(__file__).with_name("grammar")
PARTS = ("program.lark", "match.lark", "expressions.lark")
STORED = GRAMMAR / "tables.json"
STARTS = ("program", "alternatives", "expr", "skip", "type")
FORMAT = 1
"""Version of the stored form."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to reduce: `size` values become what the builder's method `action` makes of them.

    `inline` rules are lark's helpers (and those named with an underscore): their values are spliced into the rule
    above. `transparent` ones hand a single value on as it is.
    """

    origin: str
    action: str
    size: int
    inline: bool
    transparent: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """An LALR(1) automaton.

    Attributes:
        literals: text of each fixed token (keywords in lower case, operators) to its terminal.
        states: per state, what to do by terminal or rule name: n >= 0 moves on to state n, n < 0 reduces by
            rule -n - 1.
        starts, ends: first and final state for each start symbol.
    """

    literals: dict[str, str]
    rules: tuple[Rule, ...]
    states: tuple[dict[str, int], ...]
    starts: dict[str, int]
    ends: dict[str, int]


def grammar_text() -> str:
    """The whole grammar, the files one after the other."""
    return "\n".join((GRAMMAR / part).read_text(encoding="utf-8") for part in PARTS)


@cache
def load_tables() -> Tables:
    """The tables of the grammar as it stands: stored ones if they fit, else worked out."""
    grammar = grammar_text()
    try:
        stored = json.loads(STORED.read_bytes())
    except (OSError, ValueError):
        stored = None
    if stored is None or (stored["format"], stored["grammar"]) != (FORMAT, grammar):
        stored = build(grammar)
    return _read(stored)


def _read(stored: dict[str, Any]) -> Tables:
    symbols = stored["symbols"]
    return Tables(
        literals=stored["literals"],
        rules=tuple(Rule(*rule) for rule in stored["rules"]),
        states=tuple(dict(zip([symbols[i] for i in row[::2]], row[1::2], strict=True)) for row in stored["states"]),
        starts=stored["starts"],
        ends=stored["ends"],
    )


def build(grammar: str) -> dict[str, Any]:
    """Work the tables out with lark, in the form in which they are stored."""
    from lark import Lark
    from lark.grammar import Rule as LarkRule
    from lark.lexer import PatternStr, TerminalDef

    lark = Lark(
        grammar, parser="lalr", lexer="basic", start=list(STARTS), keep_all_tokens=True, maybe_placeholders=False
    )
    parser, memoised = lark.memo_serialize([TerminalDef, LarkRule])
    data = parser["parser"]["parser"]
    rules: dict[int, int] = {}
    described: list[list[Any]] = []
    tokens = data["tokens"]
    symbols: dict[str, int] = {}
    states = []
    for state in range(len(data["states"])):
        row: list[int] = []
        for token, (kind, argument) in sorted(data["states"][state].items()):
            symbol = symbols.setdefault(tokens[token], len(symbols))
            if kind == 0:
                row += (symbol, argument)
                continue
            key = argument["@"]
            if key not in rules:
                rules[key] = len(rules)
                described.append(_describe(memoised[key]))
            row += (symbol, -rules[key] - 1)
        states.append(row)
    return {
        "format": FORMAT,
        "grammar": grammar,
        "literals": {t.pattern.value: t.name for t in lark.terminals if isinstance(t.pattern, PatternStr)},
        "symbols": list(symbols),
        "rules": described,
        "states": states,
        "starts": data["start_states"],
        "ends": data["end_states"],
    }


def _describe(rule: dict[str, Any]) -> list[Any]:
    origin = rule["origin"]["name"]
    alias = rule["alias"]
    transparent = bool(rule["options"]["expand1"]) and alias is None
    return [origin, alias or origin, len(rule["expansion"]), origin.startswith("_"), transparent]


def main() -> None:
    """Write the stored tables anew."""
    stored = build(grammar_text())
    STORED.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
