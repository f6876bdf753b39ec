"""The naive matcher gives Flink's recorded answers, and the engine gives those of the naive matcher."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.property.naive import Naive, TooMuchError, UndeterminedError, supports

CASES = Path(__file__).parents[1] / "conformance"
LIMIT = 5_000


def recorded() -> Iterator[Mapping[str, Any]]:
    with gzip.open(CASES / "random_dev.jsonl.gz") as random, (CASES / "flink_suite.jsonl").open("rb") as suite:
        for line in chain(random, suite):
            case = json.loads(line)
            if "error" not in case and supports(case["pattern"]):
                yield case


def sorted_answers(answers: list[dict[str, list[int]]]) -> list[str]:
    return sorted(json.dumps(answer, sort_keys=True) for answer in answers)


@pytest.mark.timeout(300)
def test_naive_matcher_gives_the_recorded_answers() -> None:
    """The same matches, and in order of their first events; where Flink's own answer hangs on the layout of a heap
    the naive matcher may say so."""
    compared = 0
    for case in recorded():
        naive = Naive(case["pattern"], case["events"], case.get("flush", True), LIMIT)
        try:
            matches = naive.matches()
        except (UndeterminedError, TooMuchError):
            continue
        if case["ties"]["matches"] == "set":
            continue
        answers = [naive.answer(match) for match in matches]
        assert sorted_answers(answers) == sorted_answers(case["matches"]), case["name"]
        position = {event["i"]: index for index, event in enumerate(naive.events)}
        firsts = [min(position[i] for taken in match.values() for i in taken) for match in case["matches"]]
        assert [match.first for match in matches] == firsts, case["name"]
        compared += 1
    assert compared > 1_650
