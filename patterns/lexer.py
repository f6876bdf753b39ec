"""From text to words: tokens with their places, comments kept apart.

Keywords are those of the grammar. Few of them are reserved; the others are names wherever the grammar has room for a
name, and some are keywords only beside certain words (``count matches``, ``after match``): `Lexer.classify` settles
that, so that a stage may be called ``count`` or a column ``date``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ostinato.patterns.errors import Problem, Span
from ostinato.patterns.literals import DURATION_TEXT, unescape_unicode
from ostinato.patterns.tables import load_tables

RESERVED = frozenset(
    {
        "and",
        "as",
        "between",
        "case",
        "cast",
        "combinations",
        "consecutive",
        "define",
        "else",
        "emit",
        "false",
        "greedy",
        "in",
        "into",
        "is",
        "like",
        "match",
        "not",
        "null",
        "optional",
        "or",
        "output",
        "param",
        "pattern",
        "regexp",
        "relaxed",
        "reluctant",
        "rlike",
        "stream",
        "then",
        "true",
        "until",
        "when",
        "within",
    }
)
"""Words that are names only in quotes."""

BESIDE = frozenset({"after", "timeouts", "count", "matches", "cap", "both", "leading", "trailing"})
"""Words that are keywords beside certain others; the printer quotes them to be safe."""

LITERAL_PREFIXES = frozenset({"timestamp", "date", "double", "interval", "decimal"})
_TRIM_ENDS = frozenset({"both", "leading", "trailing"})
_CONTEXTUAL = BESIDE | LITERAL_PREFIXES

_TOKEN = re.compile(
    rf"""
    (?P<space>[\s\ufeff]+)
  | (?P<comment>--[^\n]*|/\*.*?\*/)
  | (?P<unicode>[Uu]&'(?:[^']|'')*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")+"|`(?:[^`]|``)+`)
  | (?P<duration>{DURATION_TEXT})
  | (?P<number>\d+\.\d+(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
  | (?P<integer>\d+)
  | (?P<dollar>\$(?:[^\W\d]\w*|`(?:[^`]|``)+`))
  | (?P<word>[^\W\d]\w*)
  | (?P<operator>->>|!->|->|<>|!=|<=|>=|\|\||==|&&|[()\[\]{{}},.=<>+\-*%|!?]|/(?!\*))
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_KINDS = {
    "string": "STRING",
    "unicode": "STRING",
    "duration": "DURATION",
    "number": "NUMBER",
    "integer": "INTEGER",
    "quoted": "NAME",
    "dollar": "DOLLAR",
    "word": "NAME",
}
_NUMBERS = frozenset({"integer", "number", "duration"})
_FOREIGN = {"==": "=", "&&": "and"}
"""What other languages write, and what it is here."""

_WORD = re.compile(r"[^\W\d]\w*")

MAX_CHARACTERS = 1 << 20
"""A text longer than this is refused unread: thousands of patterns are shorter, and whoever sends more means harm."""
MAX_TOKENS = 10_000
"""Words of one declaration. Reading takes some 50 microseconds for each, so that none takes longer than a second."""
MAX_DIGITS = 1_000
"""Of a number; no type holds so many, and to convert them takes the square of their count."""
MAX_PROBLEMS = 50
"""Nobody reads more of them; a text that is no program at all has one at every character."""
_BEGINNINGS = frozenset({"stream", "pattern", "param", "output"})
"""Reserved words, so that they are nothing but the beginning of a declaration."""


@dataclass(slots=True)
class Token:
    """A word of the language.

    `type` is the grammar's terminal; `text` is as written; `value` is what it stands for (a name without its quotes,
    a string without its escapes). `start` is its offset in the text.
    """

    type: str
    text: str
    value: str
    start: int
    span: Span

    @property
    def word(self) -> str:
        """The word in lower case, or nothing if it is not one or is quoted."""
        return self.text.lower() if _WORD.fullmatch(self.text) else ""


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment: its text, its offset, and whether nothing but space stands before it on its line."""

    text: str
    start: int
    own_line: bool
    blank_after: bool


@dataclass(frozen=True, slots=True)
class Lexed:
    """All of a text: tokens in raw form (see `classify`), comments, and what could not be read."""

    tokens: list[Token]
    comments: list[Comment]
    problems: list[Problem]


class Places:
    """Turns offsets of a text into lines and columns."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._line = 0

    def span(self, start: int, end: int) -> Span:
        """The place from offset `start` up to `end`. Cheapest when asked in the order of the text."""
        line = self._find(start)
        end_line = self._find(end)
        self._line = line
        return Span(line + 1, start - self._starts[line] + 1, end_line + 1, end - self._starts[end_line] + 1)

    def _find(self, offset: int) -> int:
        line = self._line if self._starts[self._line] <= offset else 0
        while line + 1 < len(self._starts) and self._starts[line + 1] <= offset:
            line += 1
        return line


def lex(text: str) -> Lexed:
    """Cut a text into tokens. What cannot be read becomes a problem, and reading goes on behind it, unless there is too
    much of it: then nothing of what follows is looked at."""
    if len(text) > MAX_CHARACTERS:
        message = f"the text has {len(text):,} characters; {MAX_CHARACTERS:,} are possible"
        return Lexed([], [], [Problem(message, Span(1, 1, 1, 2), "apply it in several parts")])
    places = Places(text)
    first_of_declaration = 0
    tokens: list[Token] = []
    comments: list[Comment] = []
    problems: list[Problem] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if len(problems) >= MAX_PROBLEMS:
                break
            position = _unreadable(text, position, places, tokens, problems)
            continue
        kind = match.lastgroup
        assert kind is not None
        written, start, position = match.group(), position, match.end()
        if kind == "space":
            continue
        if kind == "comment":
            comment = _comment(text, written, start, position)
            comments.append(comment)
            if written.startswith("-->") and not comment.own_line:
                problems.append(_arrow_comment(places.span(start, start + 3)))
            continue
        span = places.span(start, position)
        if written in _FOREIGN:
            meant = _FOREIGN[written]
            problems.append(Problem(f"there is no `{written}` in the language", span, f"write `{meant}`"))
            written = meant
        value, problem = _value(kind, written, span)
        if problem is not None:
            problems.append(problem)
        if kind == "word" and written.lower() in _BEGINNINGS:
            first_of_declaration = len(tokens)
        tokens.append(Token(_KINDS.get(kind, ""), written, value, start, span))
        if len(tokens) - first_of_declaration > MAX_TOKENS:
            hint = "simplify it, or make several of it"
            problem = Problem(f"a declaration has more than {MAX_TOKENS:,} words and signs", span, hint)
            return Lexed([], [], [*problems, problem])
    return Lexed(tokens, comments, problems)


def _value(kind: str, written: str, span: Span) -> tuple[str, Problem | None]:
    if kind == "string":
        return written[1:-1].replace("''", "'"), None
    if kind == "unicode":
        try:
            return unescape_unicode(written[3:-1].replace("''", "'")), None
        except ValueError as error:
            return "", Problem(str(error), span, "escapes are written \\000a or \\+01f600, and \\\\ is a backslash")
    if kind in _NUMBERS and len(written) > MAX_DIGITS:
        return "0", Problem(f"a number has {len(written):,} digits; {MAX_DIGITS:,} are possible", span)
    if kind == "quoted":
        quote = written[0]
        return written[1:-1].replace(quote * 2, quote), None
    if kind == "dollar":
        return (written[2:-1].replace("``", "`") if written[1] == "`" else written[1:]), None
    return written, None


def _comment(text: str, written: str, start: int, end: int) -> Comment:
    line_start = text.rfind("\n", 0, start) + 1
    rest = re.match(r"[^\S\n]*\n[^\S\n]*\n", text[end : end + 200])
    return Comment(written.rstrip(), start, not text[line_start:start].strip("\ufeff \t\r\f\v"), rest is not None)


def _arrow_comment(span: Span) -> Problem:
    return Problem(
        "`-->` begins a comment, so that the rest of the line does not count",
        span,
        "followed by is written `->`; if a comment is meant, put a space behind `--`",
    )


_UNCLOSED = {
    "'": ("this text is not closed", "a text ends with `'`; a quote in it is written twice: ''"),
    '"': ("this quoted name is not closed", 'a quoted name ends with `"`'),
    "`": ("this quoted name is not closed", "a quoted name ends with a backquote"),
    "/*": ("this comment is not closed", "a comment begun with `/*` ends with `*/`"),
}


def _unreadable(text: str, position: int, places: Places, tokens: list[Token], problems: list[Problem]) -> int:
    """Say what is wrong at `position`; return where to read on. What is not closed ends with its line."""
    opener = "/*" if text.startswith("/*", position) else text[position]
    line_end = text.find("\n", position)
    line_end = len(text) if line_end < 0 else line_end
    if text.startswith(('""', "``"), position):
        problems.append(Problem("a name cannot be empty", places.span(position, position + 2)))
        return position + 2
    if opener in _UNCLOSED:
        message, hint = _UNCLOSED[opener]
        span = places.span(position, line_end)
        problems.append(Problem(message, span, hint))
        if opener == "/*":
            return len(text)
        tokens.append(
            Token("STRING" if opener == "'" else "NAME", opener, text[position + 1 : line_end], position, span)
        )
        return line_end
    span = places.span(position, position + 1)
    remedy = "declarations follow one another without a separator" if opener == ";" else None
    problems.append(Problem(f"`{opener}` has no meaning in the language", span, remedy))
    return position + 1


def classify(tokens: Sequence[Token]) -> list[Token]:
    """The tokens with their terminals: which words are keywords here."""
    literals = load_tables().literals
    result = []
    for index, token in enumerate(tokens):
        type_: str = token.type or literals[token.text.lower()]
        word = token.word
        if word and token.type == "NAME" and word in literals and _is_keyword(word, tokens, index):
            type_ = literals[word]
        result.append(Token(type_, token.text, token.value, token.start, token.span))
    return result


def _is_keyword(word: str, tokens: Sequence[Token], index: int) -> bool:
    before = tokens[index - 1].text.lower() if index else ""
    if before == ".":
        return False
    if word not in _CONTEXTUAL:
        return True
    if word == "matches":
        return before in ("count", "partial")
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if after is None:
        return False
    if word in LITERAL_PREFIXES:
        return after.type == "STRING" or (word == "decimal" and _typed_decimal(tokens, index + 1))
    if word in _TRIM_ENDS:
        opened = before == "(" and index > 1 and tokens[index - 2].text.lower() == "trim"
        return opened and after.type in ("STRING", "NAME")
    if before == "as":
        return False
    if word == "cap":
        return after.type == "INTEGER"
    return after.text.lower() == {"after": "match", "timeouts": "into", "count": "matches"}[word]


def _typed_decimal(tokens: Sequence[Token], index: int) -> bool:
    """Do ``(p, s) '…'`` stand at `index`?"""
    return [token.type or token.text for token in tokens[index : index + 6]] == [
        "(",
        "INTEGER",
        ",",
        "INTEGER",
        ")",
        "STRING",
    ]


def is_plain_name(name: str) -> bool:
    """Can it be written without quotes wherever a name stands?"""
    lowered = name.lower()
    return _WORD.fullmatch(name) is not None and lowered not in RESERVED and lowered not in BESIDE


def quote_name(name: str, *, after_dot: bool = False, before_text: bool = False) -> str:
    """The name as it is written: in backquotes where it is no plain word or would be taken for a keyword."""
    taken = before_text and name.lower() in LITERAL_PREFIXES
    if not taken and (is_plain_name(name) or (after_dot and _WORD.fullmatch(name))):
        return name
    return "`" + name.replace("`", "``") + "`"


def keywords() -> Iterable[str]:
    """Every keyword, in lower case."""
    return (text for text in load_tables().literals if text.isalpha())
