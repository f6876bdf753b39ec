"""A full disk: with checkpoints the job waits for room and loses nothing; it can be stopped meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ostinato.cep.connectors import room as room_module
from ostinato.cep.connectors.base import SinkError
from ostinato.cep.connectors.factory import sink_for
from ostinato.cep.connectors.room import Room
from ostinato.cep.runtime.outputs import Outputs
from ostinato.patterns.ast import Connector
from tests.unit.connectors.transactional_job import NAMES, batch, hidden, numbers_in


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a mebibyte, full but for a few pages."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    (folder / "ballast").write_bytes(bytes(800_000))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Job:
    """Writes rows until they are all published; `stopping` says whether it was asked to stop."""

    def __init__(self, folder: Path, form: str) -> None:
        self.said: list[str] = []
        self.stopping = False
        self.error: Exception | None = None
        self.room = Room(lambda: self.stopping, self.said.append)
        sink = sink_for(Connector("file", str(folder / NAMES[form]), form), "out", room=self.room)
        self.outputs = Outputs({"out": [sink]})
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outputs.recover(None)
            for begin in range(0, 12_000, 1000):
                self.outputs.deliver(batch(range(begin, begin + 1000)))
            self.outputs.commit(self.outputs.prepare(1))
            self.outputs.finish()
        except SinkError as error:
            self.error = error
        finally:
            self.outputs.close()

    def wait_for(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not happened():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_full_disk_is_waited_out(disk: Path, form: str) -> None:
    job = Job(disk, form)
    job.wait_for(lambda: bool(job.said))
    time.sleep(0.3)
    assert job.thread.is_alive()
    (line,) = job.said
    assert line.startswith(f"cannot write {disk}/{NAMES[form]}: no space left on device, ")
    assert line.endswith(" bytes are missing; waiting for room")
    assert int(line.split("device, ")[1].split()[0]) > 0
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    job.thread.join(30)
    assert job.error is None
    assert job.said[1].startswith(f"there is room again: going on with {disk}/{NAMES[form]} after ")
    assert job.room.waited_seconds > 0.2
    assert numbers_in(disk, form) == list(range(12_000))
    assert hidden(disk) == []


def test_publishing_waits_for_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
    job = Job(disk, "json")
    job.wait_for(lambda: bool(job.said))
    path = disk / NAMES["json"]
    job.wait_for(lambda: path.stat().st_size > 0)
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    job.thread.join(30)
    assert job.error is None
    assert numbers_in(disk, "json") == list(range(12_000))
    assert hidden(disk) == []


def test_composing_waits_for_room(disk: Path) -> None:
    (disk / "ballast").write_bytes(bytes(930_000))
    job = Job(disk, "parquet")
    job.wait_for(lambda: bool(job.said))
    (disk / "ballast").unlink()
    job.thread.join(30)
    assert job.error is None
    assert numbers_in(disk, "parquet") == list(range(12_000))
    assert hidden(disk) == []


def test_a_job_that_is_asked_to_stop_waits_no_longer(disk: Path) -> None:
    job = Job(disk, "json")
    job.wait_for(lambda: bool(job.said))
    job.stopping = True
    job.thread.join(10)
    assert not job.thread.is_alive()
    assert "no space left on device; the job was asked to stop while it waited for room: make room" in str(job.error)
    assert isinstance(job.error.__cause__ if job.error else None, OSError)


def test_other_errors_are_not_waited_out(tmp_path: Path) -> None:
    room = Room()
    for code in (errno.EIO, errno.EFBIG, errno.EROFS):
        with pytest.raises(SinkError, match="cannot write x: "):
            room.wait("x", str(tmp_path), OSError(code, os.strerror(code)), 1)
    assert room.waited_seconds == 0


def test_how_much_is_missing_is_more_than_nothing_under_a_quota(tmp_path: Path) -> None:
    said: list[str] = []
    Room(say=said.append).wait("x", str(tmp_path), OSError(errno.EDQUOT, "Disk quota exceeded"), 17)
    assert said == ["cannot write x: disk quota exceeded, 17 bytes are missing; waiting for room"]


def test_syncing_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SinkError, match="make room on the disk"):
        room_module.sync("x", 0)
    with pytest.raises(SinkError, match="make room on the disk"):
        room_module.sync_folder("x", str(tmp_path))
