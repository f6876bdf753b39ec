"""Flink's own cases and cases that Flink answered: run every way there is, with equal results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.cases import OWN_SEMANTICS, Case, canonical, read_cases, run_case, score
from tests.conformance.run import main

HERE = Path(__file__).parent
SUITE = HERE / "flink_suite.jsonl"
RANDOM = HERE / "random_dev.jsonl.gz"
ILLEGAL = HERE / "illegal.jsonl.gz"


def failures(path: Path, **way: object) -> list[str]:
    results = [(case["name"], score(case, **way)) for case in read_cases(path)]
    assert len(results) > 100
    assert any(result.verdict == "passed" for _, result in results)
    return [f"{name}: {result.detail}" for name, result in results if result.verdict == "failed"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", [SUITE, RANDOM, ILLEGAL], ids=lambda path: path.stem)
def test_the_answers_are_those_of_flink(path: Path) -> None:
    assert failures(path) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", [SUITE, RANDOM], ids=lambda path: path.stem)
def test_batches_may_be_cut_anywhere(path: Path) -> None:
    assert failures(path, cuts=7) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", [SUITE, RANDOM], ids=lambda path: path.stem)
def test_state_may_go_into_bytes_and_back_after_every_batch(path: Path) -> None:
    assert failures(path, cuts=11, restore=True) == []


@pytest.mark.timeout(600)
def test_uncompiled_kernels_agree() -> None:
    command = [sys.executable, str(HERE / "run.py"), str(SUITE), str(RANDOM)]
    done = subprocess.run(
        command, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")


def answered(path: Path) -> list[Case]:
    own = [case for case in read_cases(path) if not OWN_SEMANTICS & set(case.get("features", ()))]
    return [case for case in own if "error" not in case]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("restore", [False, True], ids=["whole", "restored"])
def test_matches_are_the_same_where_nobody_asks_for_timeouts(restore: bool) -> None:
    # then expiry need not be exact, and one event may stand for what it begins in many patterns
    for case in answered(SUITE) + answered(RANDOM)[:600]:
        wanted = canonical(run_case(case).matches)
        found = run_case(case, timeouts=False, cuts=3 if restore else None, restore=restore)
        assert canonical(found.matches) == wanted, case["name"]
        assert found.timeouts == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("restore", [False, True], ids=["whole", "restored"])
def test_numbers_of_matches_are_those_of_enumerating(restore: bool) -> None:
    for case in answered(SUITE) + answered(RANDOM)[:600]:
        wanted = len(run_case(case, timeouts=False).matches)
        counted = run_case(case, timeouts=False, count=True, cuts=5 if restore else None, restore=restore)
        assert sum(counted.counts) == wanted, case["name"]
        assert 0 not in counted.counts


def test_the_runner_fails_where_an_answer_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    case = dict(next(iter(read_cases(SUITE))))
    case["matches"] = case["matches"][1:]
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text(json.dumps(case) + "\n")
    assert main([str(wrong)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(case["name"])
    assert printed[-1] == "0 passed, 1 failed"


def test_cases_of_own_semantics_are_counted_apart() -> None:
    verdicts = Counter(score(case).verdict for case in read_cases(RANDOM) if "stage_window" in case["features"])
    assert set(verdicts) == {"own"}
