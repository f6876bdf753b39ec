"""Jobs that survive, and the commands about them: real processes, as a user starts and asks them."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Folder, attack, lines, login

Eventually = Callable[[Callable[[], Any]], Any]


class Jobs:
    """Runs jobs in a folder that follow ``live.jsonl`` and write ``alerts.jsonl``."""

    def __init__(self, folder: Folder, eventually: Eventually) -> None:
        self.folder = folder
        self._eventually = eventually
        self._started: list[subprocess.Popen[bytes]] = []
        folder.write("live.jsonl", b"")

    def start(self, *arguments: str, name: str = "logins", running: int = 1) -> subprocess.Popen[bytes]:
        """A job that runs by the time this returns."""
        process = self.folder.start(
            "run", "logins.cep", "-i", "live.jsonl", "--follow", "-o", "alerts.jsonl", "--name", name, *arguments
        )
        self._started.append(process)

        def runs() -> bool:
            assert process.poll() is None, process.communicate()[1].decode()
            return len([job for job in self.listed() if job["state"] == "RUNNING"]) >= running

        self._eventually(runs)
        return process

    def feed(self, events: list[Any]) -> None:
        with (self.folder.path / "live.jsonl").open("ab") as live:
            live.write(lines(events))

    def listed(self) -> list[dict[str, Any]]:
        done = self.folder.run("list", "--json")
        assert done.code == 0, done.err
        jobs: list[dict[str, Any]] = json.loads(done.out)["jobs"]
        return jobs

    def status(self) -> dict[str, Any]:
        (job,) = self.listed()
        return job

    def wait_for(self, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The status of the one job, once this holds for it."""
        self._eventually(lambda: holds(self.status()))
        return self.status()

    def alerts(self) -> list[str]:
        path = self.folder.path / "alerts.jsonl"
        return [row["user"] for row in self.folder.read("alerts.jsonl")] if path.exists() else []

    def end(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        _, err = process.communicate(timeout=60)
        return process.returncode, err.decode()

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def jobs(folder: Folder, eventually: Eventually) -> Iterator[Jobs]:
    made = Jobs(folder, eventually)
    yield made
    made.close()


WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


@WORKERS
def test_list_shows_what_a_job_does(jobs: Jobs, workers: str) -> None:
    assert jobs.listed() == []
    process = jobs.start("-p", workers, "--checkpoint-dir", "chk", "--interval", "100ms")
    jobs.feed(attack("eve", 0))
    found = jobs.wait_for(lambda job: job["events"] == 4 and job["checkpoints"]["completed"] > 1)
    assert (found["name"], found["pid"], found["parallelism"]) == ("logins", process.pid, int(workers))
    assert found["checkpoint_address"] == str(jobs.folder.path / "chk")
    assert found["restarts"] == 0
    assert found["checkpoints"]["last"]["bytes_written"] > 0
    assert found["checkpoints"]["age_seconds"] < 60
    assert len(found["processes"]) == (2 if workers == "2" else 0)
    for times in found["operators"].values():
        assert times["busy"] + times["idle"] + times["backpressured"] == pytest.approx(1, abs=0.001)
    assert {"<sources>", "logins.in", "logins", "<output>"} <= set(found["operators"])
    table = jobs.folder.run("list", "-v").out
    assert "logins" in table
    assert "RUNNING" in table
    assert "logins.in" in table
    process.terminate()
    jobs.end(process)
    assert jobs.listed() == []


@WORKERS
def test_stop_and_go_on_with_other_workers(jobs: Jobs, workers: str) -> None:
    process = jobs.start("-p", workers, "--checkpoint-dir", "chk", "--interval", "1h")
    now = attack("eve", 0)
    jobs.feed(now[:2])
    jobs.wait_for(lambda job: job["events"] == 2)
    stopped = jobs.folder.run("stop", "logins")
    assert stopped.code == 0, stopped.err
    savepoint = stopped.out.strip()
    assert Path(savepoint).is_dir()
    code, err = jobs.end(process)
    assert code == 0, err
    assert "stopped with a savepoint: 2 events" in err
    # the savepoint is all that is left, and is enough, also in another directory and with other workers
    other = "2" if workers == "1" else "1"
    process = jobs.start("-p", other, "--checkpoint-dir", "other", "-s", savepoint)
    jobs.feed([*now[2:], login("bob", 60, "SUCCESS"), login("bob", 61, "SUCCESS")])
    jobs.wait_for(lambda job: job["events"] == 6)
    assert jobs.folder.run("stop", "logins", "--drain").code == 0
    code, err = jobs.end(process)
    assert code == 0, err
    assert jobs.alerts() == ["eve"]


def test_a_savepoint_while_the_job_goes_on(jobs: Jobs) -> None:
    process = jobs.start("--checkpoint-dir", "chk")
    jobs.feed(attack("eve", 0)[:3])
    jobs.wait_for(lambda job: job["events"] == 3)
    taken = jobs.folder.run("savepoint", "logins", "elsewhere")
    assert taken.code == 0, taken.err
    savepoint = Path(taken.out.strip())
    assert savepoint.parent == jobs.folder.path / "elsewhere"
    assert "savepoint" in taken.err
    assert jobs.status()["state"] == "RUNNING"
    own = json.loads(jobs.folder.run("savepoint", "logins", "--json").out)
    assert Path(own["savepoint_address"]).parent == jobs.folder.path / "chk"
    listed = json.loads(jobs.folder.run("savepoint", "--list", "elsewhere", "--json").out)
    assert [each["address"] for each in listed["savepoints"]] == [str(savepoint)]
    assert str(savepoint) in jobs.folder.run("savepoint", "--list", "elsewhere").out
    # a savepoint is deleted only when that is asked for
    assert jobs.folder.run("cancel", "logins").code == 0
    assert jobs.end(process)[0] == 9
    gone = jobs.folder.run("savepoint", "--dispose", str(savepoint))
    assert gone.code == 0, gone.err
    assert not savepoint.exists()
    assert jobs.folder.run("savepoint", "--dispose", str(savepoint)).code == 7


@WORKERS
def test_killed_and_resumed(jobs: Jobs, workers: str) -> None:
    process = jobs.start("-p", workers, "--checkpoint-dir", "chk", "--interval", "50ms")
    events = attack("eve", 0) + attack("mallory", 20)
    jobs.feed([*events[:6], login("bob", 12, "SUCCESS")])
    jobs.wait_for(lambda job: job["events"] == 7)
    after = jobs.status()["checkpoints"]["completed"]
    jobs.wait_for(lambda job: job["checkpoints"]["completed"] > after + 1)
    process.kill()
    process.communicate()
    assert jobs.listed() == []
    jobs.feed([*events[6:], login("bob", 60, "SUCCESS"), login("bob", 61, "SUCCESS")])
    refused = jobs.folder.run("run", "logins.cep", "-i", "live.jsonl", "--name", "logins", "--checkpoint-dir", "chk")
    assert refused.code == 7
    assert "--resume" in refused.err
    process = jobs.start("-p", "2" if workers == "1" else "1", "--checkpoint-dir", "chk", "--resume")
    jobs.wait_for(lambda job: job["events"] == 11)
    jobs.folder.run("stop", "logins")
    code, err = jobs.end(process)
    assert code == 0, err
    assert "going on from checkpoint" in err
    assert jobs.alerts() == ["eve", "mallory"]


def test_cancel_keeps_checkpoints_or_not(jobs: Jobs) -> None:
    for keep, kept in (("on-cancel", True), ("never", False)):
        where = f"chk-{keep}"
        process = jobs.start("--checkpoint-dir", where, "--interval", "50ms", "--keep-checkpoints", keep)
        jobs.wait_for(lambda job: job["checkpoints"]["completed"] > 0)
        done = jobs.folder.run("cancel", "logi")
        assert done.code == 0, done.err
        code, err = jobs.end(process)
        assert code == 9
        assert "cancelled: " in err
        listed = json.loads(jobs.folder.run("savepoint", "--list", where, "--json").out)
        assert bool(listed["savepoints"]) is kept


def test_a_second_job_on_the_same_directory_is_refused(jobs: Jobs) -> None:
    first = jobs.start("--checkpoint-dir", "chk")
    second = jobs.folder.run(
        "run",
        "logins.cep",
        "-i",
        "live.jsonl",
        "-o",
        "x.jsonl",
        "--checkpoint-dir",
        "chk",
        "--resume-if-any",
        "--name",
        "logins",
    )
    assert second.code == 7
    assert str(first.pid) in second.err
    assert not (jobs.folder.path / "x.jsonl").exists()
    assert jobs.status()["state"] == "RUNNING"


def test_resume_where_there_is_nothing(folder: Folder) -> None:
    refused = folder.run("run", "logins.cep", "-o", "alerts.jsonl", "--checkpoint-dir", "chk", "--resume")
    assert refused.code == 7
    assert "there is no checkpoint" in refused.err
    assert not (folder.path / "alerts.jsonl").exists()
    begun = folder.run("run", "logins.cep", "-o", "alerts.jsonl", "--checkpoint-dir", "chk", "--resume-if-any")
    assert begun.code == 0
    assert "begins at the beginning" in begun.err
    assert [row["user"] for row in folder.read("alerts.jsonl")] == ["eve", "mallory"]


def test_checkpoints_of_a_job_that_has_ended_are_deleted_unless_they_are_wanted(folder: Folder) -> None:
    run = ("run", "logins.cep", "-o", "alerts.jsonl", "--checkpoint-dir", "chk")
    done = folder.run(*run)
    assert done.code == 0
    assert " checkpoint" in done.summary
    assert folder.run(*run, "--keep-checkpoints", "always").code == 0
    assert folder.run(*run).code == 7


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(jobs: Jobs, workers: str, number: signal.Signals) -> None:
    process = jobs.start("-p", workers, "--checkpoint-dir", "chk", "--interval", "1h")
    jobs.feed([*attack("eve", 0), login("bob", 60, "SUCCESS"), *attack("mallory", 60)[:3]])
    jobs.wait_for(lambda job: job["events"] == 8)
    process.send_signal(number)
    code, err = jobs.end(process)
    assert code == (143 if number == signal.SIGTERM else 130), err
    # what was found is published, with a last checkpoint, from which the job goes on
    assert jobs.alerts() == ["eve"]
    jobs.feed([*attack("mallory", 60)[3:], login("bob", 100, "SUCCESS"), login("bob", 101, "SUCCESS")])
    process = jobs.start("--checkpoint-dir", "chk", "--resume")
    jobs.wait_for(lambda job: job["events"] == 11)
    jobs.folder.run("stop", "logins")
    assert jobs.end(process)[0] == 0
    assert jobs.alerts() == ["eve", "mallory"]


def test_there_is_no_such_job(jobs: Jobs) -> None:
    for command in ("savepoint", "stop", "cancel"):
        done = jobs.folder.run(command, "logins")
        assert done.code == 8
        assert "there is no running job `logins`" in done.err
    process = jobs.start()
    assert "did you mean `logins`" in jobs.folder.run("stop", "login1").err
    refused = jobs.folder.run("savepoint", "logins")
    assert refused.code == 8
    assert "--checkpoint-dir" in refused.err
    assert jobs.folder.run("cancel", "logins").code == 0
    assert jobs.end(process)[0] == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--interval", "10"], "10s"),
        (["--interval", "10s"], "--checkpoint-dir"),
        (["--resume"], "--checkpoint-dir"),
        (["-s", "sp-1"], "--checkpoint-dir"),
        (["--restart", "fixed-delay"], "--checkpoint-dir"),
        (["--checkpoint-dir", "a", "--checkpoint-redis", "redis://h/0"], "one of them"),
        (["--checkpoint-dir", "redis://h/0"], "--checkpoint-redis"),
        (["--checkpoint-redis", "h:6379"], "redis://HOST"),
        (["--checkpoint-dir", "a", "--resume", "-s", "b"], "Give one of them"),
        (["--checkpoint-dir", "a", "--durability", "lowered"], "--checkpoint-redis"),
        (["--state-memory", "1GB"], "--state-backend rocksdb"),
        (["--name", "my job"], "letters, digits"),
        (["--checkpoint-dir", "a", "--restart", "sometimes"], "failure-rate"),
    ],
)
def test_options_that_do_not_go_together(folder: Folder, arguments: list[str], said: str) -> None:
    done = folder.run("run", "logins.cep", *arguments)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert done.out == ""


def test_what_cannot_be_read_again_takes_no_checkpoints(folder: Folder) -> None:
    done = folder.run("run", "logins.cep", "-i", "-", "-o", "a.jsonl", "--checkpoint-dir", "chk", stdin=b"")
    assert done.code == 3
    assert "cannot be read a second time" in done.err
