"""Rows leave in an order that does not depend on who found them."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import MAX_TIME, Batch, IntArray, Strings, Vector, concat_batches
from ostinato.cep.nfa.emission import Emitted, in_order
from ostinato.patterns.types import BIGINT

GROUPS = 8

rows = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([0, 1, 2, 1000, MAX_TIME]), st.integers(0, 30)), max_size=30
)


def groups_of(keys: IntArray) -> IntArray:
    return (keys * 7 + 3) % GROUPS


def texts_of(keys: IntArray) -> Strings:
    return Strings.of([f"{key:03}" for key in keys.tolist()])


def emitted(found: list[tuple[str, int, int]], first: int = 0) -> list[Emitted]:
    """A batch of its own for each row, which holds the key and how many were found before it."""
    return [
        Emitted(
            Batch(
                stream,
                np.array([time]),
                {"key": Vector.of(BIGINT, [key]), "number": Vector.of(BIGINT, [number])},
            ),
            np.array([key]),
            np.zeros(1, np.int64),
        )
        for number, (stream, time, key) in enumerate(found, first)
    ]


def listed(batches: list[Batch]) -> dict[str, list[tuple[int, int, int]]]:
    return {
        batch.stream: list(
            zip(batch.time.tolist(), batch.columns["key"].to_list(), batch.columns["number"].to_list(), strict=True)
        )
        for batch in batches
    }


@settings(deadline=None)  # kernels may have to be compiled first
@given(rows)
def test_by_time_then_by_key_group_then_by_key_then_as_found(found: list[tuple[str, int, int]]) -> None:
    came = listed(in_order(emitted(found), groups_of, texts_of, GROUPS))
    numbered = [(stream, time, key, number) for number, (stream, time, key) in enumerate(found)]
    for stream in {stream for stream, _, _ in found}:
        own = [(time, key, number) for name, time, key, number in numbered if name == stream]
        assert came[stream] == sorted(own, key=lambda row: (row[0], (row[1] * 7 + 3) % GROUPS, row[1]))


@settings(deadline=None)  # kernels may have to be compiled first
@given(rows, st.sampled_from([2, 3, 8]))
def test_what_several_workers_found_is_what_one_would_have_found(
    found: list[tuple[str, int, int]], workers: int
) -> None:
    alone = listed(in_order(emitted(found), groups_of, texts_of, GROUPS))
    told: dict[str, list[Batch]] = {}
    for worker in range(workers):
        whole = emitted(found)
        own = [each for each in whole if int(groups_of(each.keys)[0]) * workers // GROUPS == worker]
        for batch in in_order(own, groups_of, texts_of, GROUPS):
            told.setdefault(batch.stream, []).append(batch)
    together = []
    for batches in told.values():
        batch = concat_batches(batches)
        together.append(batch.take(np.argsort(batch.time, kind="stable")))
    assert listed(together) == alone


def test_a_batch_in_order_is_given_on_as_it_is() -> None:
    batch = Batch("a", np.array([1, 2, 3]), {"n": Vector.of(BIGINT, [1, 2, 3])})
    assert (
        in_order([Emitted(batch, np.zeros(3, np.int64), np.zeros(3, np.int64))], groups_of, texts_of, GROUPS)[0]
        is batch
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([5, 6]), st.integers(0, 30)), max_size=120))
def test_many_rows_at_one_time(found: list[tuple[int, int]]) -> None:
    found.sort(key=lambda row: row[0])
    came = listed(in_order(emitted([("a", *row) for row in found]), groups_of, texts_of, GROUPS))
    own = [(time, key, number) for number, (time, key) in enumerate(found)]
    assert came.get("a", []) == sorted(own, key=lambda row: (row[0], (row[1] * 7 + 3) % GROUPS, row[1]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([5, 6]), st.integers(0, 30), st.integers(0, 3)), max_size=60), st.randoms())
def test_rows_that_are_found_in_another_order_come_in_the_same(
    found: list[tuple[int, int, int]], chance: random.Random
) -> None:
    def came(rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        parts = [
            Emitted(
                Batch("a", np.array([time]), {"key": Vector.of(BIGINT, [key]), "of": Vector.of(BIGINT, [pattern])}),
                np.array([key]),
                np.array([pattern]),
            )
            for time, key, pattern in rows
        ]
        return [
            row
            for batch in in_order(parts, groups_of, texts_of, GROUPS)
            for row in zip(
                batch.time.tolist(), batch.columns["key"].to_list(), batch.columns["of"].to_list(), strict=True
            )
        ]

    mixed = found[:]
    chance.shuffle(mixed)
    assert came(mixed) == came(found)
