"""Stores that fail, are slow, are lost or belong to somebody else; checkpoints that are damaged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ostinato.cep.connectors.base import Chunk
from ostinato.cep.runtime.checkpoints import CheckpointInfo, CheckpointOptions
from ostinato.cep.runtime.coordinator import CheckpointError
from ostinato.cep.runtime.restarts import FixedDelay, NoRestart
from ostinato.cep.runtime.stopping import Stop
from ostinato.cep.runtime.supervised import is_final
from ostinato.state.errors import FencedError, SnapshotError, StoreError
from ostinato.state.stores.base import Entry, Pieces
from ostinato.state.stores.directory import DirectoryStore
from tests.unit.runtime.supervising import PROGRAM, START_MS, Rows, Run, TwoPhase, chunks_of, login_lines

KEPT = CheckpointOptions(interval_ms=1, keep="always", retained=3)


class Unreliable(DirectoryStore):
    """A directory where some calls fail, or take their time: `on` is called with the name of each call and its number
    among those of its kind, and may raise or sleep."""

    def __init__(self, folder: Path, on: Callable[[str, int], None]) -> None:
        super().__init__(folder, "test")
        self.calls = {"put": 0, "commit": 0, "delete": 0}
        self._on = on

    def _count(self, what: str) -> None:
        self.calls[what] += 1
        self._on(what, self.calls[what])

    def put(self, name: str, data: Pieces) -> None:
        self._count("put")
        super().put(name, data)

    def commit(self, entry: Entry, manifest: bytes) -> None:
        self._count("commit")
        super().commit(entry, manifest)

    def delete(self, id: int, blobs: object) -> None:  # noqa: A002
        self._count("delete")
        super().delete(id, blobs)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return chunks_of(login_lines(240), 6)


@pytest.fixture(scope="module")
def expected(chunks: list[Chunk], tmp_path_factory: pytest.TempPathFactory) -> Rows:
    run = Run(tmp_path_factory.mktemp("whole"), chunks, options=CheckpointOptions(interval_ms=None))
    run.job.run(Stop())
    return run.outlet.published


def slowly(number: int) -> None:
    time.sleep(0.004)


@pytest.mark.parametrize("what", ["put", "commit", "delete"])
def test_a_store_that_fails_now_and_then_costs_nothing(
    what: str, chunks: list[Chunk], expected: Rows, tmp_path: Path
) -> None:
    def on(call: str, number: int) -> None:
        if call == what and number in (2, 3, 5):
            raise StoreError("it cannot be reached")

    run = Run(tmp_path, chunks, store=Unreliable(tmp_path, on), before=slowly)
    run.job.run(Stop())
    assert run.outlet.published == expected
    assert run.job.restarts == 0
    assert any("it cannot be reached" in line for line in run.said)
    numbers = run.job.checkpoints
    assert numbers is not None
    assert numbers.failed == (0 if what == "delete" else 3)
    assert numbers.failed_in_a_row == 0


def test_too_many_failures_in_a_row_fail_the_job_where_that_is_wanted(chunks: list[Chunk], tmp_path: Path) -> None:
    def on(call: str, number: int) -> None:
        if call == "put" and number > 2:
            raise StoreError("it cannot be reached")

    options = CheckpointOptions(interval_ms=1, tolerable_failures=2)
    store = Unreliable(tmp_path, on)
    run = Run(tmp_path, chunks, store=store, before=slowly, options=options, restarts=NoRestart())
    with pytest.raises(CheckpointError, match="3 checkpoints in a row"):
        run.job.run(Stop())


def test_a_slow_store_does_not_hold_the_job_up(chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    ends: list[float] = []

    def on(call: str, number: int) -> None:
        if call == "put" and number == 2:
            time.sleep(0.6)

    def before(number: int) -> None:
        time.sleep(0.002)
        if number == len(chunks):
            ends.append(time.monotonic())

    options = CheckpointOptions(interval_ms=1, timeout_ms=150)
    run = Run(tmp_path, chunks, store=Unreliable(tmp_path, on), before=before, options=options)
    began = time.monotonic()
    run.job.run(Stop())
    assert ends[0] - began < 0.6, "the input was read while the store slept"
    assert run.outlet.published == expected
    assert any("150 ms" in line for line in run.said), "the slow one was given up"


def test_at_the_end_of_the_input_the_store_is_waited_for(chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    """Nothing else would publish what was found."""

    def on(call: str, number: int) -> None:
        if call == "commit" and number < 3:
            raise StoreError("it cannot be reached")

    options = CheckpointOptions(interval_ms=3_600_000)
    run = Run(tmp_path, chunks, store=Unreliable(tmp_path, on), options=options)
    run.job.run(Stop())
    assert run.outlet.published == expected


def test_whoever_is_fenced_ends_at_once(chunks: list[Chunk], tmp_path: Path) -> None:
    def on(call: str, number: int) -> None:
        if call == "put" and number == 3:
            raise FencedError("somebody else owns it")

    run = Run(tmp_path, chunks, store=Unreliable(tmp_path, on), before=slowly)
    with pytest.raises(FencedError):
        run.job.run(Stop())
    assert run.job.restarts == 0
    assert len(run.attempts) == 1


def blobs(folder: Path) -> list[Path]:
    return sorted((folder / "blobs").iterdir(), key=lambda path: int(path.name.split("-")[0]))


def interrupted(folder: Path, chunks: list[Chunk]) -> TwoPhase:
    """What a job leaves that was stopped in the middle: several checkpoints."""
    outlet, stop = TwoPhase(), Stop()

    def before(number: int) -> None:
        time.sleep(0.01)
        stop.requested = stop.requested or number == 25

    options = CheckpointOptions(interval_ms=1, keep="always", retained=3, incremental=False)
    Run(folder, chunks, outlet, before=before, options=options).job.run(stop)
    assert len(list(folder.glob("chk-*"))) == 3
    return outlet


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "manifest"])
def test_an_older_checkpoint_takes_the_place_of_a_damaged_one(
    how: str, chunks: list[Chunk], expected: Rows, tmp_path: Path
) -> None:
    outlet = interrupted(tmp_path, chunks)
    newest = max(tmp_path.glob("chk-*"), key=lambda path: int(path.name[4:]))
    blob = blobs(tmp_path)[-1]
    data = blob.read_bytes()
    if how == "truncated":
        blob.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        blob.write_bytes(bytes([data[0] ^ 255]) + bytes(byte ^ 1 for byte in data[1:]))
    elif how == "missing":
        blob.unlink()
    else:
        (newest / "manifest").write_bytes(b"nonsense")
    run = Run(tmp_path, chunks, outlet, resume="require", options=KEPT, before=slowly)
    run.job.run(Stop())
    assert outlet.published == expected
    assert run.job.restarts == 0
    point = run.attempts[-1].point
    assert point is not None
    assert point.manifest.id == int(newest.name[4:]) - 1
    assert any("damaged" in line or "missing" in line or "cannot be used" in line for line in run.said)
    assert not newest.exists(), "it does not count among those retained"


def test_without_any_whole_checkpoint_the_job_refuses(chunks: list[Chunk], tmp_path: Path) -> None:
    outlet = interrupted(tmp_path, chunks)
    before = list(outlet.published)
    for blob in blobs(tmp_path):
        blob.write_bytes(b"x")
    run = Run(tmp_path, chunks, outlet, resume="require", restarts=FixedDelay(5, 1))
    with pytest.raises(SnapshotError, match="none of the checkpoints"):
        run.job.run(Stop())
    assert outlet.published == before, "nothing was taken back for a checkpoint that cannot be used"
    assert is_final(SnapshotError())


def test_only_what_has_changed_is_written(tmp_path: Path) -> None:
    """Three thousand keys wait, and few of them change."""
    lines = [
        json.dumps({"user": f"user {number}", "ts": START_MS + number, "status": "FAILED"}).encode() + b"\n"
        for number in range(3_000)
    ]
    lines += [
        json.dumps({"user": f"user {number % 5}", "ts": START_MS + 5_000 + number, "status": "FAILED"}).encode() + b"\n"
        for number in range(1_000)
    ]
    chunks = [*chunks_of(lines[:3_000], 3_000), *chunks_of(lines[3_000:], 20)]
    written: dict[bool, int] = {}
    total: dict[bool, int] = {}
    for incremental in (True, False):
        options = CheckpointOptions(interval_ms=20, incremental=incremental)
        seen: list[CheckpointInfo] = []

        def before(number: int) -> None:
            time.sleep(0.01 if number <= 20 or len(seen) >= 5 else 0.1)  # noqa: B023 - also where writing takes long
            last = run.job.checkpoints.last if run.job.checkpoints else None  # noqa: B023
            if number > 20 and last is not None and last not in seen:  # noqa: B023
                seen.append(last)  # noqa: B023

        run = Run(tmp_path / str(incremental), chunks, options=options, before=before)
        run.job.run(Stop())
        assert len(seen) >= 5
        written[incremental] = max(info.bytes_written for info in seen)
        total[incremental] = max(info.bytes_total for info in seen)
    assert 5 * written[True] < written[False]
    assert total[True] < 2 * total[False]


def test_what_a_failed_checkpoint_was_given_is_in_the_next_one(tmp_path: Path) -> None:
    """Two hundred keys are touched once each, some of them just before a checkpoint that fails; then the job breaks."""
    status = ("FAILED", "FAILED", "SUCCESS")
    lines = [
        json.dumps({"user": f"user {n % 200}", "ts": START_MS + 10 * n, "status": status[n // 200]}).encode() + b"\n"
        for n in range(600)
    ]
    chunks = chunks_of(lines, 10)
    text = PROGRAM[: PROGRAM.index("pattern again")]
    whole = Run(tmp_path / "whole", chunks, text=text, options=CheckpointOptions(interval_ms=None))
    whole.job.run(Stop())
    assert len(whole.outlet.published) == 200

    at = 0

    def on(call: str, number: int) -> None:
        if call == "put" and 28 <= at <= 34:
            raise StoreError("it cannot be reached")

    broken: list[int] = []

    def before(number: int) -> None:
        nonlocal at
        at = number
        time.sleep(0.01)
        if number == 40 and not broken:
            broken.append(number)
            raise RuntimeError("it broke")

    store = Unreliable(tmp_path / "own", on)
    run = Run(tmp_path / "own", chunks, text=text, store=store, before=before)
    run.job.run(Stop())
    assert run.job.checkpoints is not None
    assert run.job.checkpoints.failed > 0
    assert run.job.restarts == 1
    point = run.attempts[1].point
    assert point is not None
    assert point.manifest.counters["events"] > 340, "one has completed after those that failed"
    assert sorted(map(str, run.outlet.published)) == sorted(map(str, whole.outlet.published))
