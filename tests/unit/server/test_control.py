"""The socket of a running job, and asking it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostinato.cep.runtime.checkpoints import CheckpointInfo
from ostinato.cep.runtime.commands import Commands, What
from ostinato.server.control import ControlSocket
from ostinato.server.jobs import JobError, ask, find_job
from ostinato.server.protocol import Ask
from ostinato.server.registry import Registration, runtime_folder


class Job:
    """A job as others see it: listed, and listening."""

    def __init__(self, name: str) -> None:
        self.folder = runtime_folder()
        self.commands = Commands()
        self.interrupted = threading.Event()
        self.registration = Registration(self.folder, name=name, parallelism=1, program="x.cep", checkpoints=None)
        self.entry = self.registration.entry
        self.control = ControlSocket(
            self.registration.socket_path, name, self.commands, self.describe, self.interrupted.set
        )
        self.registration.publish()

    def describe(self) -> dict[str, Any]:
        return {"state": "RUNNING"}

    def answer(self, what: What, value: Any) -> threading.Thread:
        """Answer one request, as a job does between two entries."""
        came = threading.Event()
        self.commands.on_request(came.set)

        def work() -> None:
            assert came.wait(10)
            request = self.commands.take()
            assert request is not None
            assert request.what == what
            if isinstance(value, Exception):
                request.refuse(value)
            else:
                request.answer(value)
            if what != What.SAVEPOINT:
                self.close()

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def close(self) -> None:
        self.registration.close()
        self.commands.close("the job has ended")
        self.control.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSTINATO_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture
def job() -> Iterator[Job]:
    made = Job("logins")
    yield made
    if made.registration.socket_path.exists():
        made.close()


INFO = CheckpointInfo(3, True, "/data", 1_700_000_000_000, 0.25, 100, 200)


def test_status(job: Job) -> None:
    assert ask(*find_job("logins"), Ask("status")) == {"state": "RUNNING"}


def test_a_savepoint(job: Job) -> None:
    thread = job.answer(What.SAVEPOINT, INFO)
    result = ask(*find_job("logins"), Ask("savepoint"))
    assert (result["id"], result["address"], result["bytes_total"]) == (3, "/data", 200)
    assert result["savepoint_address"] == "/data/sp-3"
    thread.join()


def test_stop_returns_when_the_job_is_gone(job: Job) -> None:
    thread = job.answer(What.STOP, INFO)
    ask(*find_job("logins"), Ask("stop"))
    assert not job.registration.socket_path.exists()
    thread.join()
    with pytest.raises(JobError, match="none runs here"):
        find_job("logins")


def test_a_request_that_a_job_refuses(job: Job) -> None:
    from ostinato.state.errors import StoreError

    thread = job.answer(What.SAVEPOINT, StoreError("cannot write /full: no space left"))
    with pytest.raises(JobError, match=r"job logins .*cannot write /full: no space left"):
        ask(*find_job("logins"), Ask("savepoint", "/full"))
    thread.join()


def test_a_request_that_comes_when_the_job_ends_is_answered(job: Job) -> None:
    thread = threading.Timer(0.2, job.close)
    thread.start()
    with pytest.raises(JobError, match="the job has ended"):
        ask(*find_job("logins"), Ask("savepoint"))
    thread.join()


def test_a_cancelled_job_that_does_not_stir_is_interrupted(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostinato.server.control._STUCK_SECONDS", 0.1)

    def end() -> None:
        assert job.interrupted.wait(10)
        job.close()

    thread = threading.Thread(target=end)
    thread.start()
    ask(*find_job("logins"), Ask("cancel"))
    thread.join()


def test_jobs_are_found_by_name_id_and_beginning() -> None:
    jobs = [Job("logins"), Job("logins-test"), Job("fraud"), Job("fraud")]
    try:
        assert find_job("logins")[1] == jobs[0].entry
        assert find_job("logins-")[1] == jobs[1].entry
        assert find_job(jobs[3].entry.id)[1] == jobs[3].entry
        with pytest.raises(JobError, match="several running jobs are called `fraud`") as several:
            find_job("fraud")
        assert jobs[2].entry.id in several.value.message
        with pytest.raises(JobError, match="did you mean `logins`"):
            find_job("logns")
        with pytest.raises(JobError, match=r"these run: .*logins-test \("):
            find_job("zzz")
    finally:
        for job in jobs:
            job.close()


def test_a_socket_is_for_its_owner_alone(job: Job) -> None:
    assert job.registration.socket_path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("sent", [b"\n", b"[]\n", b'{"do": "format"}\n', b'{"do": "status", "x": 1}\n', b"\xff\n"])
def test_nonsense_is_refused(job: Job, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(job.registration.socket_path))
        connection.sendall(sent)
        assert b'"ok":false' in connection.recv(4096)
    test_status(job)


def test_who_says_nothing_does_not_keep_others_waiting(job: Job) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for connection in silent:
        connection.connect(str(job.registration.socket_path))
    test_status(job)
    began = time.monotonic()
    job.close()
    assert time.monotonic() - began < 2
    for connection in silent:
        connection.close()


def test_a_folder_with_a_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTINATO_RUNTIME_DIR", str(tmp_path / ("x" * 120)))
    job = Job("logins")
    test_status(job)
    job.close()
