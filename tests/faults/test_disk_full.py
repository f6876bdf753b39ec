"""Disks that are full: that of the checkpoints, and that of the output."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.conftest import StartLive, Trial
from tests.faults.driver import checkpoints_in, resident_bytes
from tests.faults.workload import Shape

pytestmark = [pytest.mark.timeout(300)]

SHAPE = Shape(events=6_000)
ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]
MountSmall = Callable[[Path], "SmallDisk"]


class SmallDisk:
    """A tmpfs of a few MiB."""

    def __init__(self, place: Path) -> None:
        self._ballast = place / ".ballast"

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        assert shutil.disk_usage(self._ballast.parent).free == 0

    def make_room(self) -> None:
        self._ballast.unlink()


@contextmanager
def mounted(place: Path) -> Iterator[SmallDisk]:
    place.mkdir(exist_ok=True)
    owner = f"uid={os.geteuid()},gid={os.getegid()}"
    subprocess.run([*ROOT, "mount", "-t", "tmpfs", "-o", f"size=4m,{owner}", "tmpfs", place], check=True)
    try:
        yield SmallDisk(place)
    finally:
        # lazily: a job that is still there must not keep the test from going on
        subprocess.run([*ROOT, "umount", "--lazy", place], check=True)


@pytest.fixture
def mount_small() -> Iterator[MountSmall]:
    with ExitStack() as stack:
        yield lambda place: stack.enter_context(mounted(place))


def test_no_room_for_checkpoints(tmp_path: Path, mount_small: MountSmall, start_live: StartLive, trial: Trial) -> None:
    """Protects: a checkpoint that cannot be written fails, the job goes on, and publishes nothing that no checkpoint
    holds; the next one with room holds everything.

    Seen to fail when a checkpoint that failed ended the job: it was given up after 11 failures.
    """
    trial.on("disk full", "checkpoints")
    disk = mount_small(tmp_path / "disk")
    live = start_live(SHAPE, *checkpoints_in(str(tmp_path / "disk" / "checkpoints")))
    live.wait_for_output()
    disk.fill()
    live.running.wait_for(lambda: " failed: " in live.running.said, "a checkpoint that is said to have failed")
    published = live.published()
    time.sleep(1.5)
    assert live.published() == published
    disk.make_room()
    live.wait_for_output()
    live.finish()
    trial.judge(live.folder, SHAPE)


def test_no_room_for_output(tmp_path: Path, mount_small: MountSmall, start_live: StartLive, trial: Trial) -> None:
    """Protects: output waits for room and holds the job back, instead of failing it, growing, or leaving half a line;
    and a job that is killed meanwhile goes on from its checkpoint.

    Seen to fail when a full disk was an error like others: the job was given up after 11 failures.
    """
    trial.on("disk full", "output")
    (tmp_path / "job").mkdir()
    disk = mount_small(tmp_path / "job" / "out")
    live = start_live(SHAPE, *checkpoints_in("checkpoints"))
    live.wait_for_output()
    disk.fill()
    live.running.wait_for(lambda: "waiting for room" in live.running.said, "the job to say that it waits")
    live.feeder.hurry()
    time.sleep(1.0)
    before = resident_bytes(live.running.pid)
    time.sleep(1.5)
    assert resident_bytes(live.running.pid) - before < 4 << 20
    live.running.kill()
    disk.make_room()
    live.resume()
    live.finish()
    trial.judge(live.folder, SHAPE)
