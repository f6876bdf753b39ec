"""Output that nobody takes holds the job back: it waits, it does not grow."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import START_MS, Folder

EVERY_EVENT = """
stream clicks (user string key, ts timestamp(ms) time, page string) from file 'clicks.jsonl' (chunk_bytes = 20000)
pattern seen on clicks match a emit a.user as user, a.page as page
"""
EVENTS = 60_000


@pytest.fixture
def busy(folder: Folder) -> Folder:
    folder.write("clicks.cep", EVERY_EVENT)
    with (folder.path / "clicks.jsonl").open("w") as out:
        for n in range(EVENTS):
            out.write(json.dumps({"user": f"u{n % 50}", "ts": START_MS + n, "page": "x" * 40}) + "\n")
    return folder


class Held:
    """A job whose standard output nobody reads."""

    def __init__(self, folder: Folder, workers: str) -> None:
        self._folder = folder
        self.process: subprocess.Popen[bytes] = folder.start("run", "clicks.cep", "--format", "json", "-p", workers)

    def status(self) -> dict[str, Any] | None:
        jobs = json.loads(self._folder.run("list", "--json").out)["jobs"]
        return jobs[0] if jobs and jobs[0]["state"] == "RUNNING" else None

    def until_it_stands(self) -> dict[str, Any]:
        """Its status when it has stopped reading."""
        deadline = time.monotonic() + 60
        before = -1
        while time.monotonic() < deadline:
            status = self.status()
            if status is not None and status["events"] == before > 0:
                return status
            before = status["events"] if status is not None else -1
            time.sleep(0.5)
        raise AssertionError(f"it never stood still: {status}")

    def megabytes(self, status: dict[str, Any]) -> float:
        """Of memory, in all its processes."""
        total = 0
        for pid in (status["pid"], *status["processes"]):
            resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line)
            total += int(resident.split()[1])
        return total / 1024

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture(params=["1", "2"])
def held(busy: Folder, request: pytest.FixtureRequest) -> Iterator[Held]:
    job = Held(busy, request.param)
    yield job
    job.close()


def test_a_pipe_that_nobody_reads(held: Held) -> None:
    status = held.until_it_stands()
    assert 0 < status["events"] < EVENTS / 2
    before = held.megabytes(status)
    time.sleep(2)
    after = held.status()
    assert after is not None
    assert after["events"] == status["events"]
    assert held.megabytes(after) - before < 10
    seconds = [each["operators"]["<sources>"]["backpressured_seconds"] for each in (status, after)]
    assert seconds[1] - seconds[0] > 1.9, "waiting for the output is what the time goes into"
    assert after["operators"]["<output>"]["busy_seconds"] - status["operators"]["<output>"]["busy_seconds"] > 1.9
    for worker in after["workers"]:
        assert worker["clicks"]["backpressured_seconds"] > 1.9
    # nothing is lost by waiting
    out, _ = held.process.communicate(timeout=100)
    assert held.process.returncode == 0
    assert out.count(b"\n") == EVENTS


def test_a_job_that_is_held_up_can_be_cancelled(held: Held, busy: Folder) -> None:
    held.until_it_stands()
    done = busy.run("cancel", "clicks")
    assert done.code == 0, done.err
    _, err = held.process.communicate(timeout=30)
    assert held.process.returncode == 9
    assert err.decode().splitlines()[-1].startswith("cancelled: ")


def test_a_second_signal_ends_it_at_once(held: Held) -> None:
    held.until_it_stands()
    held.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert held.process.poll() is None, "the first one lets it write what it has"
    held.process.send_signal(signal.SIGTERM)
    held.process.wait(10)
    assert held.process.returncode == 143
