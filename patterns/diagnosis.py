"""What to say where reading got stuck, in the words of the language; and how to read on."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ostinato.patterns.errors import Problem, Span
from ostinato.patterns.lalr import END, Stuck, accepts
from ostinato.patterns.lexer import Token, classify, keywords
from ostinato.patterns.tables import Tables, load_tables

_LOOK_BACK = 3
"""How many words before the place of an error may be the misspelt one."""

_OPERATORS = frozenset(
    {
        "EQUAL",
        "NOT_EQUAL",
        "BANG_EQUAL",
        "LESSTHAN",
        "MORETHAN",
        "LESS_EQUAL",
        "GREATER_EQUAL",
        "PLUS",
        "MINUS",
        "STAR",
        "SLASH",
        "PERCENT",
        "CONCAT",
        "AND",
        "OR",
        "NOT",
        "IS",
        "IN",
        "LIKE",
        "BETWEEN",
        "RLIKE",
        "REGEXP",
        "DOT",
        "LSQB",
    }
)
_OPERANDS = frozenset(
    {
        "NAME",
        "STRING",
        "INTEGER",
        "NUMBER",
        "DURATION",
        "DOLLAR",
        "LPAR",
        "MINUS",
        "PLUS",
        "NOT",
        "CASE",
        "CAST",
        "REGEXP",
        "RLIKE",
        "TRUE",
        "FALSE",
        "NULL",
    }
)
_CLAUSES = frozenset(["MATCH", "DEFINE", "WITHIN", "AFTER", "EMIT", "INTO", "TIMEOUTS", "COUNT", "CAP"])
_DECLARATIONS = frozenset(["STREAM", "PARAM", "PATTERN", "OUTPUT"])
_QUANTIFIERS = frozenset(["QMARK", "STAR", "PLUS", "LBRACE"])
_MODIFIERS = frozenset(
    {
        "RELAXED",
        "COMBINATIONS",
        "CONSECUTIVE",
        "GREEDY",
        "RELUCTANT",
        "OPTIONAL",
        "UNTIL",
        "LSQB",
    }
)
_LINKS = frozenset(["FOLLOWED", "FOLLOWED_ANY", "BANG", "NOT_FOLLOWED"])
_NAMED = {
    "NAME": "a name",
    "STRING": "a text in single quotes",
    "INTEGER": "a whole number",
    "NUMBER": "a number",
    "DURATION": "a duration such as `5 min`",
    END: "the end",
}
_FOREIGN_UNITS = frozenset({"m", "mn", "hr", "hrs", "w", "week", "weeks", "month", "months", "us", "ns"})
_CLOSERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}


@dataclass(frozen=True, slots=True)
class Repair:
    """A misspelt keyword: token `index` should read `word`."""

    index: int
    word: str


def find_repair(tables: Tables, start: str, raw: Sequence[Token], stuck: Stuck) -> Repair | None:
    """The keyword that was probably meant at or shortly before the place, with which reading gets further."""
    best: Repair | None = None
    furthest = stuck.index
    for index in range(min(stuck.index, len(raw) - 1), max(-1, stuck.index - 1 - _LOOK_BACK), -1):
        token = raw[index]
        if not token.word:
            continue
        for word in difflib.get_close_matches(token.word, list(keywords()), n=3, cutoff=0.7):
            if word == token.word:
                continue
            mended = classify([*raw[:index], respelt(token, word), *raw[index + 1 :]])
            reached = accepts(tables, start, mended[: stuck.index + 4])
            if reached > furthest:
                best, furthest = Repair(index, word), reached
    return best


def respelt(token: Token, word: str) -> Token:
    """The token as if `word` were written there."""
    return replace(token, type="NAME", text=word, value=word)


def misspelt(token: Token, repair: Repair) -> Problem:
    return Problem(f"unexpected `{token.text}`", token.span, f"did you mean `{repair.word}`?")


def explain(tokens: Sequence[Token], stuck: Stuck, end: Span) -> Problem:
    """Say what is wrong where reading got stuck; `end` is the place behind the last token."""
    at_end = stuck.index >= len(tokens)
    token = None if at_end else tokens[stuck.index]
    before = tokens[stuck.index - 1] if stuck.index else None
    place = token.span if token is not None else end
    closes_here = token is None or token.type in _CLAUSES | _DECLARATIONS or token.type in _CLOSERS.values()
    opener = _open_bracket(tokens[: stuck.index])
    if opener is not None and closes_here and _CLOSERS[opener.type] in stuck.expected:
        what = "the end" if token is None else f"`{token.text}`"
        closer = {"(": ")", "[": "]", "{": "}"}[opener.text]
        return Problem(f"`{opener.text}` is not closed before {what}", opener.span, f"close it with `{closer}`")
    found = "the text ends too early" if token is None else f"unexpected {_shown(token)}"
    hint = _special_hint(token, before, stuck) or _expectation(stuck.expected)
    return Problem(found, place, hint)


def _shown(token: Token) -> str:
    return token.text if token.type == "STRING" and len(token.text) < 40 else f"`{token.text[:40]}`"


def _open_bracket(tokens: Sequence[Token]) -> Token | None:
    stack: list[Token] = []
    for token in tokens:
        if token.type in _CLOSERS:
            stack.append(token)
        elif stack and token.type == _CLOSERS[stack[-1].type]:
            stack.pop()
    return stack[-1] if stack else None


def _special_hint(token: Token | None, before: Token | None, stuck: Stuck) -> str | None:
    """What to do about some mistakes that are made often."""
    if token is None or before is None:
        return None
    expected = stuck.expected
    after_number = before.type in ("INTEGER", "NUMBER") and token.type == "NAME"
    misplaced = token.word and token.type != "NAME" and "NAME" in expected and not expected & (_CLAUSES | _OPERATORS)
    listed = expected >= {"COMMA", "RPAR"} and not expected & (_OPERATORS - {"DOT", "LSQB"})
    if token.type == "INTEGER" and "DURATION" in expected and "INTEGER" not in expected:
        return f"a duration has a unit: `{token.text} s`, `{token.text} min`, `{token.text} h` …"
    if after_number and token.word in _FOREIGN_UNITS:
        return "the units of durations are ms, s, min, h and d"
    if misplaced:
        return f"`{token.text}` is a word of the language; as a name it is written in backquotes"
    if listed and token.type in ("NAME", "STRING"):
        return "expected `,` or `)` before it"
    return None


def _expectation(expected: frozenset[str]) -> str:
    """What could stand here, the kinds of things first: at most six of them."""
    rest = set(expected)
    words: list[str] = []

    def kind(members: frozenset[str], name: str, *, needs: int) -> None:
        if len(members & rest) >= needs:
            words.append(name)
            rest.difference_update(members)

    if {"STRING", "INTEGER", "NAME", "LPAR"} <= rest:
        kind(_OPERANDS, "a value", needs=4)
        rest.difference_update(_soft_words())
    elif "NAME" in rest:
        rest.difference_update(_soft_words())
        rest.discard("NAME")
        words.append("a stage" if "LPAR" in rest and not rest & _OPERATORS - {"LSQB"} else "a name")
        rest.discard("LPAR") if words[-1] == "a stage" else None
    if {"EQUAL", "PLUS"} <= rest:
        kind(_OPERATORS, "an operator", needs=4)
    kind(_QUANTIFIERS, "a quantifier", needs=3)
    kind(_MODIFIERS, "", needs=5)
    kind(_LINKS, "`->`", needs=3)
    literals = {name: text for text, name in load_tables().literals.items()}
    closing = [name for name in ("COMMA", "RPAR", "RSQB", "RBRACE") if name in rest]
    words += [f"`{literals[name]}`" for name in closing]
    rest.difference_update(closing)
    kind(_CLAUSES, "a clause (define, within, emit …)", needs=3)
    if rest >= _DECLARATIONS:
        kind(_DECLARATIONS, "a declaration (stream, param, pattern, output)", needs=4)
    rest.discard(END)
    words += sorted(_NAMED.get(name) or f"`{literals.get(name, name.lower())}`" for name in rest)
    words = [word for word in words if word]
    if not words:
        return "nothing more can stand here"
    shown = words[:6]
    more = " …" if len(words) > 6 else ""
    return "expected " + (shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]) + more


def _soft_words() -> frozenset[str]:
    """Terminals of the keywords that may be names."""
    from ostinato.patterns.lexer import BESIDE, RESERVED

    literals = load_tables().literals
    return frozenset(
        name for text, name in literals.items() if text.isalpha() and text not in RESERVED and text not in BESIDE
    )
