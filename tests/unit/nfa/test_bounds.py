"""Bounds between events: a partial match whose next event is overdue ends, whatever it has done in between."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import run_cep

PROGRAM = """
stream events (k string key, ts timestamp(ms) time, v string)
pattern p on events
  match {match}
  define {define}
  emit k, first(a.ts) as since
  into found
  timeouts into missed
"""


def run(match: str, events: str) -> dict[str, list[int]]:
    """Events at 0, 10, 20, ... ms; the times of matches and of timeouts."""
    given: list[dict[str, Any]] = [{"k": "x", "ts": 10 * n, "v": v} for n, v in enumerate(events)]
    define = ", ".join(f"{stage} as v = '{stage}'" for stage in "abcd" if f"{stage} " in f"{match} ")
    program = PROGRAM.format(match=match, define=define)
    rows = {name: run_cep(program, given, output=name) for name in ("found", "missed")}
    return {name: [row["match_time"] for row in found] for name, found in rows.items()}


@pytest.mark.parametrize(
    ("match", "events", "found", "missed"),
    [
        # the event before the bound is all that its state can take
        ("a b -> c -> d [within 15 ms]", "abcd", [30], []),
        ("a b -> c -> d [within 15 ms]", "abcxxd", [], [35]),
        ("a -> c -> d [within 15 ms]", "axcxxd", [], [35]),
        ("a -> b [within 15 ms] -> c", "axxb", [], [15]),
    ],
)
def test_what_is_overdue_is_a_timeout(match: str, events: str, found: list[int], missed: list[int]) -> None:
    assert run(match, events) == {"found": found, "missed": missed}
