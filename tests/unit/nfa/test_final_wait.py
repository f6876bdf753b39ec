"""``!-> n [within d]`` at the end of a pattern: quiet for that long after the last event, whatever that was."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support import run_cep

PROGRAM = """
stream events (k string key, ts timestamp(ms) time, t string, i bigint)
pattern p on events
  match  {match}
  define {define}
  after match {skip}
  emit   {emit}
  into   quiet
  timeouts into gone
"""
CONDITIONS = {"a": "t = 'A'", "b": "t = 'B'", "n": "t = 'N'", "again": "true"}


def events(text: str) -> list[dict[str, Any]]:
    """``A1 B5``: an A at 1 ms and a B at 5 ms."""
    return [{"k": "k", "ts": int(word[1:]), "t": word[0], "i": index} for index, word in enumerate(text.split())]


def run(
    match: str, text: str, *, skip: str = "skip past last", output: str = "quiet", emit: str = "collect(a.i) as a"
) -> list[dict[str, Any]]:
    used = set(re.findall(r"\w+", re.sub(r"\[.*?\]", "", match)))
    define = ", ".join(f"{stage} as {condition}" for stage, condition in CONDITIONS.items() if stage in used)
    program = PROGRAM.format(match=match, define=define, skip=skip, emit=emit)
    return run_cep(program, events(text), output=output)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A1 A3 A8", [[0, 1, 2]]),
        ("A1 A3 A8 A18", [[0, 1, 2]]),  # at the bound is outside
        ("A1 A3 A8 A18 A19", [[0, 1, 2], [3, 4]]),
        ("A1 A11", []),
        ("A1", []),
    ],
)
def test_a_burst_ends_when_it_has_been_quiet(text: str, found: list[list[int]]) -> None:
    assert [row["a"] for row in run("a{2,} [every 10 ms] !-> again [within 10 ms]", text)] == found


def test_it_is_complete_when_the_time_has_passed() -> None:
    (row,) = run("a{2,} [every 10 ms] !-> again [within 30 ms]", "A1 A3 B100")
    assert row["match_time"] == 33


def test_what_must_not_follow_has_no_say_in_the_repetition() -> None:
    assert [row["a"] for row in run("a{2,3} relaxed !-> n [within 10 ms]", "A1 N2 A3")] == [[0, 2]]
    assert run("a{2,3} relaxed !-> n [within 10 ms]", "A1 N2 A3 N12") == []
    assert [row["a"] for row in run("a{2,3} relaxed !-> n [within 10 ms]", "A1 N2 A3 N13")] == [[0, 2]]


def test_every_length_waits_for_itself() -> None:
    rows = run("a+ !-> n [within 10 ms]", "A1 A2 N5", skip="no skip")
    assert rows == []
    rows = run("a+ !-> n [within 10 ms]", "A1 A2 N12", skip="no skip")
    assert sorted(row["a"] for row in rows) == [[0], [0, 1], [1]]


def test_behind_a_repeated_group() -> None:
    emit = "collect(a.i) as a, collect(b.i) as b"
    found = run("( a b ){2,} !-> again [within 10 ms]", "A1 B2 A3 B4 A5 B6 A50", emit=emit)
    assert [(row["a"], row["b"]) for row in found] == [([0, 2, 4], [1, 3, 5])]


def test_behind_a_single_stage() -> None:
    assert [row["a"] for row in run("a !-> n [within 10 ms]", "A1 N11 A20 N29 A40")] == [[0], [4]]


def test_a_match_is_no_timeout_as_well() -> None:
    gone = run("a{2,} [every 10 ms] !-> again [within 10 ms]", "A1 A2 A3", output="gone")
    assert [row["a"] for row in gone] == [[2]]  # one event is no burst
