"""The checker sees every kind of fault, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.checker import Faults, Row, check, read_outputs
from tests.faults.matrix import as_text, entry, matrix

ROWS: Sequence[Row] = [{"user": user, "n": n} for n in range(4) for user in ("ada", "bob")]
KEYS = {"alerts": ("user",)}


def lines(rows: Sequence[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def judged(content: bytes) -> Faults:
    return check({"alerts": ROWS}, {"alerts": content}, KEYS)


def only(**kinds: int) -> dict[str, int]:
    return {**Faults().counts, **kinds}


def test_what_was_expected_is_no_fault() -> None:
    faults = judged(lines(ROWS))
    assert not faults
    assert str(faults) == "no faults"


def test_columns_may_stand_in_any_order() -> None:
    assert not judged(lines([{"n": row["n"], "user": row["user"]} for row in ROWS]))


def test_keys_may_be_interleaved_in_any_way() -> None:
    assert not judged(lines(sorted(ROWS, key=lambda row: row["user"])))


def test_lost() -> None:
    faults = judged(lines([*ROWS[:3], *ROWS[4:]]))
    assert faults.counts == only(lost=1)
    assert str(faults) == '1 lost:\n  alerts: {"n":1,"user":"bob"}'


def test_everything_lost() -> None:
    assert judged(b"").counts == only(lost=8)
    assert check({"alerts": ROWS}, {}, KEYS).counts == only(lost=8)


def test_duplicated() -> None:
    assert judged(lines([*ROWS, ROWS[2]])).counts == only(duplicated=1)


def test_two_equal_rows_are_no_duplicate_where_two_are_expected() -> None:
    twice = [*ROWS, *ROWS]
    assert not check({"alerts": twice}, {"alerts": lines(twice)}, KEYS)
    assert check({"alerts": twice}, {"alerts": lines(ROWS)}, KEYS).counts == only(lost=8)


def test_phantom() -> None:
    assert judged(lines([*ROWS, {"user": "eve", "n": 0}])).counts == only(phantom=1)


def test_an_output_nobody_expected_is_phantom() -> None:
    faults = check({"alerts": ROWS}, {"alerts": lines(ROWS), "more": lines(ROWS[:2])}, KEYS)
    assert faults.counts == only(phantom=2)


def test_reordered() -> None:
    swapped = [ROWS[2], ROWS[1], ROWS[0], *ROWS[3:]]
    faults = judged(lines(swapped))
    assert faults.counts == only(reordered=1)
    assert 'key ["ada"]' in faults.reordered[0]


def test_reordered_beside_lost_and_duplicated() -> None:
    swapped = [ROWS[2], ROWS[1], ROWS[0], ROWS[1], *ROWS[4:]]
    assert judged(lines(swapped)).counts == only(reordered=1, lost=1, duplicated=1)


@pytest.mark.parametrize("cut", [1, 5])
def test_a_last_line_without_its_end_is_torn(cut: int) -> None:
    faults = judged(lines(ROWS)[:-cut])
    assert faults.counts == only(torn=1, lost=1)


def test_a_line_that_is_no_row_is_torn() -> None:
    half = lines(ROWS[:1])[:9]
    faults = judged(half + lines(ROWS))
    assert faults.counts == only(torn=1, lost=1)
    assert judged(lines(ROWS) + b"17\n").counts == only(torn=1)


def test_only_published_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl").write_bytes(b"1")
    (tmp_path / ".alerts.jsonl.pending").write_bytes(b"2")
    (tmp_path / ".more.jsonl").write_bytes(b"3")
    assert read_outputs(tmp_path) == {"alerts": b"1"}


def test_the_matrix_adds_up_runs() -> None:
    entries = [
        entry("SIGKILL", "worker", Faults(), 0.5),
        entry("SIGKILL", "worker", Faults(lost=["a", "b"]), 2),
        entry("SIGKILL", "supervisor", None),
    ]
    assert [line.split() for line in as_text(matrix(entries))] == [
        ["fault", "where", "runs", "failed", "lost", "duplicated", "phantom", "reordered", "torn", "recovery"],
        ["SIGKILL", "supervisor", "1", "1", "0", "0", "0", "0", "0", "-"],
        ["SIGKILL", "worker", "2", "0", "2", "0", "0", "0", "0", "1.2/2.0"],
        ["in", "all", "3", "1", "2", "0", "0", "0", "0", "1.2/2.0"],
    ]
