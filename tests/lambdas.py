"""Conditions written in Python, with what they are in the language."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal as PythonDecimal
from typing import Any, NamedTuple

from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, Array, DataType, Decimal, Row

COLUMNS: dict[str, DataType] = {
    "user": STRING,
    "status": STRING,
    "n": BIGINT,
    "m": BIGINT,
    "x": DOUBLE,
    "y": DOUBLE,
    "ok": BOOLEAN,
    "ts": TIMESTAMP,
    "day": DATE,
    "amount": Decimal(10, 2),
    "tags": Array(STRING),
    "geo": Row((("lat", DOUBLE), ("place", Row((("city", STRING),))))),
}
LIMIT = 10
NAMES = ("ann", "bob")
BLOCKED = {"b", "a"}


class Status(enum.StrEnum):
    FAILED = "FAILED"


class Level(enum.IntEnum):
    HIGH = 3


class Limits(NamedTuple):
    low: int


@dataclass(frozen=True)
class Frozen:
    high: int


@dataclass
class Thawed:
    high: int


LIMITS, FROZEN, THAWED = Limits(1), Frozen(9), Thawed(9)


def is_big(event: Any, limit: int = 5) -> bool:
    return bool(event.n > limit)


def with_statements(event: Any) -> bool:
    limit = LIMIT * 2
    if event.n > limit:
        return True
    if event.m > limit:
        return bool(event.x > 1)
    return False


class Rules:
    LEAST = 4

    def big(self, event: Any) -> bool:
        return bool(event.n > Rules.LEAST)

    @staticmethod
    def small(event: Any) -> bool:
        return bool(event.n < Rules.LEAST)


def made_with(limit: int) -> Callable[[Any], bool]:
    return lambda e: e.n > limit


SIMPLE: list[tuple[Callable[..., Any], str]] = [
    (lambda e: e.status == "FAILED", "status = 'FAILED'"),
    (lambda e: e["status"] == "FAILED", "status = 'FAILED'"),
    (lambda e: e.get("status") == "FAILED", "status = 'FAILED'"),
    (lambda e: e.n != 3, "n is distinct from 3"),
    (lambda e: e.n == e.m, "n is not distinct from m"),
    (lambda e: not e.status == "FAILED", "status is distinct from 'FAILED'"),  # noqa: SIM201
    (lambda e: not e.n < 3, "not n < 3"),
    (lambda e: not (e.n == 3 and e.m > 2), "n is distinct from 3 or not m > 2"),
    # comparison
    (lambda e: 1 < e.n <= LIMIT, "1 < n and n <= 10"),
    (lambda e: e.n > 1 and e.n < 5 and e.m == 2 and e.x > 0.5, "n > 1 and n < 5 and m = 2 and x > 0.5"),
    (lambda e: e.n > 1 or e.n < 5 or e.m == 2, "n > 1 or n < 5 or m = 2"),
    (lambda e: (e.n > 1 or e.m > 1) and (e.n < 5 or e.m < 5), "(n > 1 or m > 1) and (n < 5 or m < 5)"),
    (lambda e: (e.n > 1 and (e.m > 1 or e.x > 1)) or e.y > 1, "n > 1 and (m > 1 or x > 1) or y > 1"),
    (lambda e: (e.n == 1) & (e.m == 2) | (e.x > 3), "n = 1 and m = 2 or x > 3"),
    (lambda e: e.status < "m", "status < 'm'"),
    (lambda e: e.n in (1, 2, 3), "n in (1, 2, 3)"),
    (lambda e: e.status in ["a", "b"], "status in ('a', 'b')"),
    (lambda e: e.status in {"a", "b"}, "status in ('a', 'b')"),
    (lambda e: e.status in BLOCKED, "status in ('a', 'b')"),
    (lambda e: e.status not in NAMES, "status in ('ann', 'bob') is not true"),
    (lambda e: e.n in (None, 1), "n is null or n in (1)"),
    (lambda e: e.n in range(3), "n in (0, 1, 2)"),
    (lambda e: e.n in (LIMIT, e.m), "n = 10 or n is not distinct from m"),
    (lambda e: e.n is None, "n is null"),
    (lambda e: e.n is not None, "n is not null"),
    (lambda e: e.n == None, "n is null"),  # noqa: E711
    (lambda e: e.ok, "ok"),
    (lambda e: not e.ok, "ok is not true"),
    (lambda e: e.ok == True, "ok = true"),  # noqa: E712
    (lambda e: e.n, "n <> 0"),
    (lambda e: not e.n, "n <> 0 is not true"),
    (lambda e: e.status and e.n > 3, "status <> '' and n > 3"),
    (lambda e: bool(e.status), "status <> ''"),
    (lambda e: (e.n > 1) == (e.m > 1), "(n > 1) is not distinct from (m > 1)"),
    (lambda e: True, "true"),
    (lambda e: e, "true"),
    (lambda e: LIMIT > 5, "true"),
    # arithmetic
    (lambda e: e.n + 1 > e.m * 2 - LIMIT, "n + 1 > m * 2 - 10"),
    (lambda e: -e.n > -3, "-n > -3"),
    (lambda e: e.x / e.y > 2, "x / y > 2"),
    (lambda e: e.n / e.m > 2, "cast(n as double) / m > 2"),
    (lambda e: e.n % 2 == 0, "n % 2 = 0"),
    (lambda e: e.n % 3 == 1, "case when n % 3 < 0 then n % 3 + 3 else n % 3 end = 1"),
    (lambda e: e.n // 3 > 1, "(n - case when n % 3 < 0 then n % 3 + 3 else n % 3 end) / 3 > 1"),
    (lambda e: e.n**2 > 9, "n * n > 9"),
    (lambda e: abs(e.x - e.y) > 1, "abs(x - y) > 1"),
    (lambda e: min(e.n, e.m, 3) > 1, "least(n, m, 3) > 1"),
    (lambda e: max(e.n, 3) > 1, "greatest(n, 3) > 1"),
    (lambda e: round(e.n) == 3, "n = 3"),
    (lambda e: float(e.n) > 1.5, "cast(n as double) > 1.5"),
    (lambda e: math.sqrt(e.x) > 2 and math.floor(e.y) == 1, "sqrt(x) > 2 and floor(y) = 1"),
    (lambda e: e.n > 60 * 60 * math.pi, "n > 11309.733552923255"),
    (lambda e: e.amount > 10, "amount > 10"),
    (lambda e: e.amount > PythonDecimal("9.99"), "amount > decimal '9.99'"),
    # conditionals
    (lambda e: (e.n if e.ok else e.m) > 3, "case when ok then n > 3 else m > 3 end"),
    (lambda e: e.n > 3 if e.ok else e.m > 3, "case when ok then n > 3 else m > 3 end"),
    (lambda e: (e.n or 5) > 3, "n <> 0 is not true or n > 3"),
    (lambda e: e.ok if e.n > 1 else False, "n > 1 and ok"),
    # text
    (lambda e: e.status.startswith("FA"), "starts_with(status, 'FA')"),
    (lambda e: e.status.endswith(("A", "B")), "ends_with(status, 'A') or ends_with(status, 'B')"),
    (lambda e: e.status.lower() == "failed", "lower(status) = 'failed'"),
    (lambda e: e.status.upper().strip(" ") == e.user, "trim(upper(status)) is not distinct from user"),
    (lambda e: "FAIL" in e.status, "position('FAIL', status) > 0"),
    (lambda e: "FAIL" not in e.status, "not position('FAIL', status) > 0"),
    (lambda e: e.status in "abc", "position(status, 'abc') > 0"),
    (lambda e: len(e.status) > 3, "char_length(status) > 3"),
    (lambda e: e.status.replace("a", "b") == "b", "replace(status, 'a', 'b') = 'b'"),
    (lambda e: e.status.find("a") == 0, "position('a', status) - 1 = 0"),
    (lambda e: e.status + "!" == "a!", "status || '!' = 'a!'"),
    # nested values
    (lambda e: e.tags[0] == "a", "tags[1] = 'a'"),
    (lambda e: len(e.tags) > 1 and e.tags, "cardinality(tags) > 1 and cardinality(tags) > 0"),
    (lambda e: e.geo.lat > 1 and e["geo"]["lat"] > 2, "(geo).lat > 1 and (geo).lat > 2"),
    (lambda e: e.geo.place.city == "x", "((geo).place).city = 'x'"),
    # times, which Python sees as milliseconds
    (lambda e: e.ts > 1_000, "to_millis(ts) > 1000"),
    (lambda e: e.ts > datetime(2026, 1, 2, tzinfo=UTC), "ts > timestamp '2026-01-02 00:00:00'"),
    # constants from elsewhere
    (lambda e: e.status == Status.FAILED, "status = 'FAILED'"),
    (lambda e: e.status == Status.FAILED.value and e.n > Level.HIGH, "status = 'FAILED' and n > 3"),
    (lambda e: LIMITS.low < e.n < FROZEN.high, "1 < n and n < 9"),
    (lambda e, limit=7: e.n > limit, "n > 7"),
    (made_with(42), "n > 42"),
    (is_big, "n > 5"),
    (lambda e: is_big(e) and is_big(e, 7), "n > 5 and n > 7"),
    (with_statements, "n > 20 or m > 20 and x > 1"),
    (Rules().big, "n > 4"),
    (lambda e: Rules.small(e), "n < 4"),
]


def after_the_first(event: Any, ctx: Any) -> bool:
    before = ctx.get_events_for_pattern("b")
    last = before[-1] if before else None
    return last is None or event.x > last.x


ITERATIVE: list[tuple[Callable[..., Any], str]] = [
    (lambda e, ctx: e.x > ctx.get_events_for_pattern("b")[-1].x, "x > last(b.x)"),
    (lambda e, ctx: e.x > ctx.get_events_for_pattern("b")[0]["x"], "x > first(b.x)"),
    (lambda e, ctx: e.x > ctx.get_events_for_pattern("b")[-2].x, "x > last(b.x, 1)"),
    (lambda e, ctx: e.x > list(ctx.get_events_for_pattern("b"))[2].x, "x > first(b.x, 2)"),
    (lambda e, ctx: len(ctx.get_events_for_pattern("b")) < 3, "count(b) < 3"),
    (lambda e, ctx: len(ctx.get_events_for_pattern("b")) != 3, "count(b) <> 3"),
    (lambda e, ctx: sum(b.n for b in ctx.get_events_for_pattern("b")) + e.n > 10, "coalesce(sum(b.n), 0) + n > 10"),
    (lambda e, ctx: e.n > max(b["n"] for b in ctx.get_events_for_pattern("b")), "n > max(b.n)"),
    (lambda e, ctx: e.n > min(b.n for b in ctx.get_events_for_pattern("b") if b.n is not None), "n > min(b.n)"),
    (lambda e, ctx: sum(1 for b in ctx.get_events_for_pattern("b")) > 2, "count(b) > 2"),
    (lambda e, ctx: sum(1 for b in ctx.get_events_for_pattern("b") if b.n is not None) > 2, "count(b.n) > 2"),
    (lambda e, ctx: not ctx.get_events_for_pattern("b"), "count(b) = 0"),
    (after_the_first, "count(b) = 0 or x > last(b.x)"),
    (
        lambda e, ctx: sum(b.x for b in ctx.get_events_for_pattern("b")) / len(ctx.get_events_for_pattern("b")) > e.x,
        "coalesce(sum(b.x), 0) / count(b) > x",
    ),
]
