"""However many workers there are, the same bytes come out: also where much happens in the same millisecond."""

from __future__ import annotations

import pytest

from .conftest import Folder, attack, lines, login

PROGRAM = """
stream logins (
  user   string key,
  ts     timestamp(ms) time delay 2 s,
  status string,
  ip     string
) from file 'logins.jsonl' (chunk_bytes = 700)

pattern failing on logins
  match  fail{3,} ok
  define fail as status = 'FAILED',
         ok   as status = 'SUCCESS'
  within 5 min
  after match skip past last
  emit   user, count(fail) as failures
  into   alerts

pattern returning on logins
  match  ok
  define ok as status = 'SUCCESS'
  emit   user, 0 as failures
  into   alerts
"""


@pytest.fixture(scope="module")
def events() -> bytes:
    """Thirty users who do the same at the same time, again and again."""
    found = []
    for round_ in range(4):
        each = [attack(f"user{n}", 20 * round_, 3 + n % 2) for n in range(30)]
        found += [event for step in range(5) for steps in each for event in steps[step : step + 1]]
    return lines([*found, login("last", 1000, "FAILED")])


@pytest.mark.parametrize("workers", [2, 3])
def test_events_of_the_same_millisecond(folder: Folder, events: bytes, workers: int) -> None:
    folder.write("logins.cep", PROGRAM)
    folder.write("logins.jsonl", events)
    alone = folder.run("run", "logins.cep", "--json")
    together = folder.run("run", "logins.cep", "--json", "-p", str(workers))
    assert len(alone.rows) == 240
    assert together.out == alone.out
