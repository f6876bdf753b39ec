"""``ostinato fmt``: the canonical text of a file, with its comments.

Comments are no part of the syntax tree. They are put back by where they stood: the words of the old text are matched
with those of the new one, and a comment goes with the word behind it (if it has lines of its own) or before it (if it
ends a line).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from difflib import SequenceMatcher

from ostinato.patterns.errors import PatternError, Problem
from ostinato.patterns.lexer import Comment, Token, lex
from ostinato.patterns.parser import declaration_bounds, parse_program
from ostinato.patterns.printer import print_program


def format_source(text: str, filename: str = "<pattern>") -> str:
    """The canonical form of a file.

    Nothing gets lost: it means the same, and every comment is still there.

    Raises:
        PatternError: what is wrong with its syntax.
    """
    program = parse_program(text, filename)
    formatted = print_program(program)
    old = lex(text)
    if not old.comments:
        return formatted
    result = _with_comments(formatted, old.tokens, old.comments)
    kept = sorted(comment.text for comment in lex(result).comments)
    if parse_program(result, filename) != program or kept != sorted(comment.text for comment in old.comments):
        raise PatternError(Problem("the comments of this file cannot be kept in its canonical form"), filename=filename)
    return result


def _with_comments(formatted: str, old: Sequence[Token], comments: Sequence[Comment]) -> str:
    new = lex(formatted).tokens
    lines = formatted.split("\n")[:-1]
    partner = _partners(old, new)
    starts = [token.start for token in old]
    before: dict[int, list[Comment]] = {}
    behind: dict[int, Comment] = {}
    for comment in comments:
        following = bisect_left(starts, comment.start)
        if comment.own_line or following == 0:
            before.setdefault(_line_of(partner, new, following, len(lines)), []).append(comment)
            continue
        ended = _line_before(partner, new, following - 1)
        if ended in behind or "\n" in comment.text:
            before.setdefault(ended, []).append(comment)
        else:
            behind[ended] = comment
    result: list[str] = []
    for index, line in enumerate([*lines, ""]):
        for comment in before.get(index, ()):
            result += _own_lines(comment, _indent(line))
        if index < len(lines):
            result.append(f"{line}  {behind[index].text}" if index in behind else line)
    return "\n".join(result) + "\n"


def _partners(old: Sequence[Token], new: Sequence[Token]) -> dict[int, int]:
    """For the words of the old text that are in the new one, their index there."""
    old_bounds, new_bounds = declaration_bounds(old), declaration_bounds(new)
    if len(old_bounds) != len(new_bounds):
        old_bounds, new_bounds = [(0, len(old))], [(0, len(new))]
    pairs: dict[int, int] = {}
    for (start, end), (new_start, new_end) in zip(old_bounds, new_bounds, strict=True):
        before, after = [_shape(t) for t in old[start:end]], [_shape(t) for t in new[new_start:new_end]]
        for block in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
            pairs |= {start + block.a + i: new_start + block.b + i for i in range(block.size)}
    return pairs


def _shape(token: Token) -> str:
    """What stays of a word when its text becomes canonical."""
    return token.value if token.type == "NAME" and not token.word else token.text.lower()


def _line_of(partner: dict[int, int], new: Sequence[Token], index: int, end: int) -> int:
    """The line of the first word from `index` on that is in the new text; `end` behind the last."""
    last = max(partner, default=-1)
    for old_index in range(index, last + 1):
        if old_index in partner:
            return new[partner[old_index]].span.line - 1
    return end


def _line_before(partner: dict[int, int], new: Sequence[Token], index: int) -> int:
    """The line of the last word up to `index` that is in the new text."""
    for old_index in range(index, -1, -1):
        if old_index in partner:
            return new[partner[old_index]].span.end_line - 1
    return 0


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _own_lines(comment: Comment, indent: str) -> list[str]:
    """A comment on lines of its own, with an empty line behind it where there was one outside declarations."""
    lines = [indent + comment.text]
    if comment.blank_after and not indent:
        lines.append("")
    return lines
