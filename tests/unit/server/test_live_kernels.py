"""Kernels are loaded beforehand for all that can be declared."""

from __future__ import annotations

import pytest

from ostinato.server.live.generation import Generation, Member
from ostinato.server.live.kernels import load_kernels
from ostinato.server.live.program import Checker

ALL_TYPES = """stream things (
  id string key, part bigint key, ts timestamp(ms) time delay 2 s, day date, ok boolean, price decimal(9, 2),
  level double, tags array<string>, place row<x double, y double>, span interval
)"""
CLOCK = "stream hits (kind string) processing time"
SUM = """pattern dear on things
  match a{2,} b
  define a as price > 1.5 and level < 2 and ok, b as cardinality(tags) > 1 or sum(a.price) > 10
  within 1 min
  emit id, sum(a.price) as total
  into dear_things"""
TWICE = """pattern twice on hits
  match a b
  define a as kind = '-', b as kind = '-'
  within 1 min"""
ABOVE = """pattern above on dear_things
  match c d
  define c as total > 1, d as total > c.total
  within 1 min"""


@pytest.mark.parametrize(
    ("streams", "patterns"),
    [
        ((ALL_TYPES,), {"dear": SUM, "above": ABOVE}),
        ((CLOCK,), {"twice": TWICE}),
        ((ALL_TYPES, CLOCK), {"dear": SUM, "hit": "pattern hit on hits match a define a as kind = '-'"}),
    ],
    ids=["types", "clock", "two"],
)
def test_loading(streams: tuple[str, ...], patterns: dict[str, str]) -> None:
    members = tuple(Member(name, 1, "live", text) for name, text in patterns.items())
    definition = Checker().check(Generation(1, streams, {}, members)).definition
    assert definition is not None
    load_kernels(definition)
