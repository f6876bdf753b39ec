"""``collect`` and ``collect_distinct``: what the events of a stage hold, as an array."""

from __future__ import annotations

from typing import Any

from ostinato.cep.api import matches

PROGRAM = """
stream hits (user string key, ts timestamp(ms) time, ip string, n bigint, tags array<string>)
pattern p on hits
  match  a{4} b?
  define a as n <> 9, b as n = 9
  emit   collect(a.ip) as ips, collect_distinct(a.ip) as distinct_ips, collect(a.n) as numbers,
         collect_distinct(a.tags) as tags, collect(b.ip) as none, cardinality(collect_distinct(a.n)) as how_many
"""


def events() -> list[dict[str, Any]]:
    rows = [("x", 3, ["t"]), ("y", None, ["t"]), ("x", 1, ["t", "u"]), ("z", 3, None)]
    return [
        {"user": "u", "ts": at, "ip": ip, "n": 0 if n is None else n, "tags": tags}
        for at, (ip, n, tags) in enumerate(rows)
    ]


def test_values_come_in_match_order_and_distinct_ones_where_they_come_first() -> None:
    (row,) = matches(PROGRAM, events())
    assert row["ips"] == ["x", "y", "x", "z"]
    assert row["distinct_ips"] == ["x", "y", "z"]
    assert row["numbers"] == [3, 0, 1, 3]
    assert row["tags"] == [["t"], ["t", "u"]]
    assert row["how_many"] == 3


def test_a_stage_without_events_gives_an_empty_array() -> None:
    (row,) = matches(PROGRAM, events())
    assert row["none"] == []


def test_what_is_null_is_left_out() -> None:
    rows = events()
    rows[0]["ip"] = None
    (row,) = matches(PROGRAM, rows)
    assert row["ips"] == ["y", "x", "z"]
