"""What matches emit."""

from __future__ import annotations

import numpy as np

from ostinato.cep.batch import Vector
from ostinato.cep.expressions import evaluate_outputs, match_columns
from ostinato.cep.match_table import MatchTable
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Typed
from ostinato.patterns.types import BIGINT, DOUBLE, STRING, TIMESTAMP, Array, DataType, Row

EVENTS = {
    "x": Vector.of(BIGINT, [5, None, 2, 2**63 - 1]),
    "s": Vector.of(STRING, ["b", "a", None, "c"]),
}


def table(*matches: list[int]) -> MatchTable:
    offsets = np.cumsum([0, *(len(match) for match in matches)], dtype=np.int64)
    positions = np.array([row for match in matches for row in match], np.int64)
    times = np.arange(len(matches), dtype=np.int64)
    keys = {"k": Vector.of(STRING, [f"key{row}" for row in range(len(matches))])}
    return MatchTable(keys, times, times + 10, EVENTS, {"a": (offsets, positions)})


def emitted(type_: DataType, function: str, name: str | None, *matches: list[int], offset: int = 0) -> list[object]:
    wanted = Matched(type_, function, "a", name, offset)
    return evaluate_outputs([("out", wanted)], table(*matches))["out"].to_list()


def test_empty_stages_between_others() -> None:
    matches: tuple[list[int], ...] = ([], [0, 2], [], [1], [])
    assert emitted(BIGINT, "count", None, *matches) == [0, 2, 0, 1, 0]
    assert emitted(BIGINT, "count", "x", *matches) == [0, 2, 0, 0, 0]
    assert emitted(BIGINT, "sum", "x", *matches) == [None, 7, None, None, None]
    assert emitted(DOUBLE, "avg", "x", *matches) == [None, 3.5, None, None, None]
    assert emitted(BIGINT, "min", "x", *matches) == [None, 2, None, None, None]
    assert emitted(BIGINT, "first", "x", *matches) == [None, 5, None, None, None]
    assert emitted(STRING, "last", "s", *matches) == [None, None, None, "a", None]
    assert emitted(STRING, "first", "s", *matches, offset=1) == [None] * 5
    assert emitted(STRING, "last", "s", *matches, offset=1) == [None, "b", None, None, None]


def test_a_sum_that_overflows_is_null_unless_it_comes_back() -> None:
    assert emitted(BIGINT, "sum", "x", [3, 0], [3], [3, 3, 3]) == [None, 2**63 - 1, None]
    assert emitted(DOUBLE, "avg", "x", [3, 3, 3]) == [float(2**63 - 1)]


def test_least_and_greatest_texts() -> None:
    assert emitted(STRING, "max", "s", [0, 1], [2], [], [3, 0]) == ["b", None, None, "c"]
    assert emitted(STRING, "min", "s", [0, 1], [2], [], [3, 0]) == ["a", None, None, "b"]


def test_a_stage_that_no_match_has() -> None:
    outputs = [
        ("n", Matched(BIGINT, "count", "z")),
        ("x", Matched(BIGINT, "last", "z", "x")),
        ("s", Matched(STRING, "first", "z", "s")),
        ("m", Matched(BIGINT, "max", "z", "x")),
    ]
    found = evaluate_outputs(outputs, table([0], [1]))
    assert [found[name].to_list() for name in "nxsm"] == [[0, 0], [None, None], [None, None], [None, None]]


def test_keys_times_and_expressions_over_them() -> None:
    length = Apply(
        BIGINT,
        "timestampdiff_second",
        (Matched(TIMESTAMP, "start", ""), Matched(TIMESTAMP, "end", "")),
    )
    doubled = Apply(BIGINT, "*", (Matched(BIGINT, "count", "a"), Constant(BIGINT, 2)))
    outputs: list[tuple[str, Typed]]
    outputs = [("k", Current(STRING, "k")), ("length", length), ("doubled", doubled), ("one", Constant(BIGINT, 1))]
    found = evaluate_outputs(outputs, table([0], [1, 2]))
    assert list(found) == ["k", "length", "doubled", "one"]
    assert [column.to_list() for column in found.values()] == [["key0", "key1"], [0, 0], [2, 4], [1, 1]]


def test_all_events_of_every_stage() -> None:
    found = match_columns(table([0, 1], []), ["a", "z"], ["x", "s"])
    assert found["a"].type == Array(Row((("x", BIGINT), ("s", STRING))))
    assert found["a"].to_list() == [[{"x": 5, "s": "b"}, {"x": None, "s": "a"}], []]
    assert found["z"].to_list() == [[], []]


def test_no_matches() -> None:
    found = evaluate_outputs(
        [("x", Matched(BIGINT, "sum", "a", "x")), ("s", Matched(STRING, "max", "a", "s"))], table()
    )
    assert [len(column) for column in found.values()] == [0, 0]
    assert len(match_columns(table(), ["a"], ["x"])["a"]) == 0
