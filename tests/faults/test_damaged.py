"""Stored checkpoints that are cut short, changed, or of a format that nobody knows."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ostinato.server import exits
from ostinato.state import manifest as manifests
from ostinato.state.envelope import seal
from ostinato.state.manifest import Manifest
from tests.faults.conftest import MakeJob, Trial
from tests.faults.driver import Job, checkpoints_in
from tests.faults.workload import Shape, lay_out

SHAPE = Shape(events=6_000)
Damage = Callable[[Path], None]


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def of_a_later_format(path: Path) -> None:
    path.write_bytes(seal(b"OMAN", 99, b"what a later release will write"))


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [
    pytest.param("manifest", cut_short, marks=pytest.mark.faults),
    pytest.param("manifest", flip_a_bit, marks=pytest.mark.faults),
    pytest.param("manifest", of_a_later_format),
    pytest.param("blob", cut_short, marks=pytest.mark.faults),
    pytest.param("blob", flip_a_bit),
    pytest.param("blob", remove, marks=pytest.mark.faults),
]


@pytest.mark.parametrize(("what", "damage"), DAMAGES)
def test_an_older_checkpoint_is_used_where_the_newest_is_damaged(
    tmp_path: Path, make_job: MakeJob, trial: Trial, what: str, damage: Damage
) -> None:
    """Protects: checksums over manifests and over each piece of a blob; the older generation that is kept; sinks that
    take back what was published after it."""
    trial.on(f"newest {what} damaged", damage.__name__.replace("_", " "))
    job = killed(tmp_path / "job", make_job)
    newest, older = checkpoints(job)[:2]
    if what == "manifest":
        damage(newest / "manifest")
    else:
        known = {blob.name for blob in read(older).blobs}
        (own,) = (blob.name for blob in read(newest).blobs if blob.name not in known)
        damage(job.folder / "checkpoints" / "blobs" / own)
    running = job.start("--resume")
    assert running.wait() == 0, running.said
    newest_id, older_id = (path.name.removeprefix("chk-") for path in (newest, older))
    assert f"checkpoint {newest_id} in " in running.said
    assert f"going on from checkpoint {older_id} in " in running.said
    trial.judge(job.folder, SHAPE)


@pytest.mark.parametrize(("what", "damage"), DAMAGES)
def test_a_job_without_a_whole_checkpoint_refuses_to_start(
    tmp_path: Path, make_job: MakeJob, trial: Trial, what: str, damage: Damage
) -> None:
    """Protects: a job that finds nothing it can go on from says so and ends; it never starts from empty, and leaves its
    output as it is.

    Seen to fail when the sinks took back what came after a checkpoint before its state had been read: every checkpoint
    that was tried cut off more of the output, which the next start then missed. And when having no whole checkpoint was
    taken for having none: the job began anew and ended with exit code 0.
    """
    trial.on(f"every {what} damaged", damage.__name__.replace("_", " "))
    job = killed(tmp_path / "job", make_job)
    for path in checkpoints(job):
        if what == "manifest":
            damage(path / "manifest")
    if what == "blob":
        for path in (job.folder / "checkpoints" / "blobs").iterdir():
            damage(path)
    before = {path.name: path.read_bytes() for path in (job.folder / "out").iterdir() if not path.name.startswith(".")}
    for how in ("--resume", "--resume-if-any"):
        running = job.start(how)
        assert running.wait() == exits.STATE, running.said
        assert "none of the checkpoints in " in running.said
    for name, content in before.items():
        assert (job.folder / "out" / name).read_bytes() == content
    trial.held()


def killed(folder: Path, make_job: MakeJob) -> Job:
    """A job that was killed when it had several checkpoints."""
    lay_out(folder, SHAPE)
    job = make_job(folder, *checkpoints_in("checkpoints", interval="60ms"))
    running = job.start(fault="checkpoint.committed:5=kill")
    assert running.wait() == -signal.SIGKILL, running.said
    assert len(checkpoints(job)) >= 2
    return job


def checkpoints(job: Job) -> list[Path]:
    """Newest first."""
    folders = (job.folder / "checkpoints").glob("chk-*")
    return sorted(folders, key=lambda path: int(path.name.removeprefix("chk-")), reverse=True)


def read(checkpoint: Path) -> Manifest:
    return manifests.decode((checkpoint / "manifest").read_bytes(), str(checkpoint))
