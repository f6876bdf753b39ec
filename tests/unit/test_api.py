"""`cep.run` and `cep.matches`: patterns over Python's own data."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ostinato import cep

START_MS = 1_700_000_000_000


class Login(cep.Event, key="user", time="ts"):
    user: str
    ts: int
    status: str


@cep.pattern(
    "fail{2,} ok",
    on=Login,
    within="5 min",
    skip="past last",
    fail=lambda e: e.status == "FAILED",
    ok=lambda e: e.status == "SUCCESS",
)
def break_in(match: cep.Match) -> dict[str, object]:
    return {"user": match.key, "failures": len(match["fail"])}


@cep.pattern("fail", on=Login, fail=lambda e: e.status == "FAILED")
def odd(match: cep.Match) -> list[dict[str, object]] | None:
    for _ in range(2):
        pass  # a loop is more than a column can say: the function is called
    if match.key == "b":
        return None
    return [{"user": match.key, "event": match["fail"]}, {"user": "again", "n": 1}]


EVENTS = [
    {"user": "a", "ts": START_MS, "status": "FAILED"},
    {"user": "b", "ts": START_MS + 1, "status": "FAILED"},
    {"user": "a", "ts": START_MS + 2, "status": "FAILED"},
    {"user": "a", "ts": START_MS + 3, "status": "SUCCESS"},
]


def test_a_decorated_pattern() -> None:
    (row,) = cep.matches(break_in, EVENTS)
    assert (row["user"], row["failures"]) == ("a", 2)


def test_a_function_that_gives_several_rows_or_none() -> None:
    rows = cep.matches(odd, EVENTS)
    assert [row["user"] for row in rows] == ["a", "again", "a", "again"]
    assert rows[0]["event"] == EVENTS[0]
    assert rows[1]["n"] == 1


def test_a_pattern_of_the_builder() -> None:
    pattern = cep.Pattern.begin("ok").where(lambda e: e.status == "SUCCESS")
    (row,) = cep.matches(pattern, EVENTS, on=Login)
    assert row["ok"] == [EVENTS[3]]
    with pytest.raises(cep.PatternError, match="which stream"):
        cep.matches(pattern, EVENTS)


def test_text_with_parameters_over_several_streams() -> None:
    text = """
    stream one (k string key, ts timestamp(ms) time)
    stream two (k string key, ts timestamp(ms) time, x bigint)
    param least = 1
    pattern a on one match x emit k
    pattern b on two match y define y as x >= least emit k, y.x as x
    """
    event = {"k": "k", "ts": START_MS}
    found = cep.run(text, {"one": [event], "two": [{**event, "x": 1}, {**event, "x": 2}]}, params={"least": 2})
    assert [row["k"] for row in found["a"]] == ["k"]
    assert [row["x"] for row in found["b"]] == [2]
    with pytest.raises(cep.PatternError, match="which stream"):
        cep.run(text, [event])


def test_a_stream_without_a_class() -> None:
    readings = cep.stream("readings", {"host": str, "ts": int, "load": float}, key="host", time="ts")
    hot = cep.Pattern.begin("a").where(lambda e: e.load > 1).next("b").where(lambda e: e.load > 2)
    events = [{"host": "h", "ts": START_MS + n, "load": load} for n, load in enumerate([1.5, 2.5, 0.1])]
    assert len(cep.matches(hot, events, on=readings)) == 1


def test_an_event_that_does_not_fit() -> None:
    with pytest.raises(cep.BadEventError, match=r"event 2: .*ts"):
        cep.matches(break_in, [EVENTS[0], {"user": "a", "ts": "soon"}])


def test_names_are_imported_when_they_are_used() -> None:
    code = (
        "import sys; from ostinato import cep; cep.Event; assert not {'numpy', 'numba', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(dir(cep)) >= set(cep.__all__)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        cep.nothing_of_this_name  # noqa: B018
