"""A checkpoint anywhere, a kill, and a restore with another number of workers: the answers stay those of Flink."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostinato.cep.batch import Vector
from ostinato.cep.nfa.keys import KeyCodec, key_group
from ostinato.cep.nfa.operator import MatchError
from ostinato.patterns.errors import PatternError
from ostinato.patterns.types import STRING
from tests.conformance.cases import Answer, Case, canonical, read_cases, run_case
from tests.conformance.rescaling import KEY, KEYS, run_rescaled
from tests.conformance.test_conformance import RANDOM, SUITE


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", [SUITE, pytest.param(RANDOM, marks=pytest.mark.faults)], ids=lambda path: path.stem)
def test_checkpoint_kill_and_restore_with_other_workers_change_nothing(path: Path) -> None:
    compared = 0
    for seed, case in enumerate(read_cases(path)):
        wanted = answer_of(case)
        if wanted is None:
            continue
        for key, found in run_rescaled(case, seed).items():
            name = f"{case['name']}, key {key}, seed {seed}"
            assert canonical(found.matches) == canonical(wanted.matches), name
            assert canonical(found.timeouts) == canonical(wanted.timeouts), name
        compared += 1
    assert compared > 100


def answer_of(case: Case) -> Answer | None:
    """That of an undisturbed run in one piece, which test_conformance.py compares with the recorded one."""
    try:
        return run_case(case)
    except (PatternError, MatchError):
        return None


def test_the_keys_belong_to_different_workers() -> None:
    codes = KeyCodec([(KEY, STRING)]).encode({KEY: Vector.of(STRING, list(KEYS))}, len(KEYS))
    assert len(set((key_group(codes, 128) * 3 // 128).tolist())) == 3
