"""What Flink refuses is refused, and what it accepts is accepted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ostinato.patterns.errors import MalformedPatternError
from ostinato.patterns.expressions import col
from tests.conformance.translate import build

CASES = Path(__file__).parents[2] / "conformance"


def read(name: str) -> list[dict[str, Any]]:
    path = CASES / name
    data = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    return [json.loads(line) for line in data.splitlines()]


def to_ast(case: dict[str, Any]) -> None:
    build(case["pattern"], lambda condition: col("x") > 1).to_ast("p", "s")


ILLEGAL = read("illegal.jsonl.gz")


def test_there_are_cases() -> None:
    assert len(ILLEGAL) == 195


@pytest.mark.parametrize("case", ILLEGAL, ids=[case["name"] for case in ILLEGAL])
def test_what_flink_refuses_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(MalformedPatternError):
        to_ast(case)


@pytest.mark.parametrize("name", ["flink_suite.jsonl", "random_dev.jsonl.gz"])
def test_what_flink_accepts_is_accepted(name: str) -> None:
    refused = {}
    for case in read(name):
        try:
            to_ast(case)
        except MalformedPatternError as error:
            refused[case["name"]] = str(error)
    assert not refused, refused
