"""Whatever goes wrong ends in one clear line and a documented exit code; bad events never stop a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import START_MS, Folder, attack, lines, login

BAD = [
    b"not json\n",
    b'{"user":null,"ts":1700000000000,"status":"FAILED"}\n',
    b'{"ts":1700000000000,"status":"FAILED"}\n',
    b'{"user":"u","ts":NaN,"status":"FAILED"}\n',
    b'{"user":"u","ts":"soon","status":"FAILED"}\n',
    b'{"user":"u","ts":1700000000000,"status":7}\n',
    b'{"user":"\xff\xfe","ts":1700000000000,"status":"FAILED"}\n',
    b'{"user":"u","ts":99999999999999,"status":"FAILED"}\n',
]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_bad_events_are_kept_and_the_run_goes_on(folder: Folder, workers: str) -> None:
    good = attack("eve", 0)
    mixed = [piece for pair in zip(good * 2, BAD, strict=True) for piece in pair][: 2 * len(BAD)]
    folder.write("logins.jsonl", lines([*mixed, *attack("mallory", 20)]))
    done = folder.run("run", "logins.cep", "-p", workers)
    assert done.code == 0
    assert {row["user"] for row in done.rows} == {"eve", "mallory"}
    assert "8 bad events (in logins.dead-letters.jsonl)" in done.summary
    letters = folder.read("logins.dead-letters.jsonl")
    raw = [
        letter["raw"].encode() if "raw" in letter else __import__("base64").b64decode(letter["raw_base64"])
        for letter in letters
    ]
    assert sorted(raw) == sorted(line.rstrip(b"\n") for line in BAD)
    assert all(letter["source"] == "logins.jsonl" and letter["reason"] for letter in letters)
    text = (folder.path / "logins.jsonl").read_bytes()
    for letter, line in zip(letters, raw, strict=True):
        assert text.split(b"\n")[letter["line"] - 1] == line
        assert text[letter["offset"] :].startswith(line)


def test_no_dead_letters_no_file(folder: Folder) -> None:
    folder.run("run", "logins.cep")
    assert not (folder.path / "logins.dead-letters.jsonl").exists()


def test_strict(folder: Folder) -> None:
    folder.write("logins.jsonl", lines([*attack("eve", 0), BAD[0]]))
    done = folder.run("run", "logins.cep", "--strict", "--dead-letters", "bad.jsonl")
    assert done.code == 5
    assert done.err.startswith("ostinato: bad event at logins.jsonl:5: ")
    assert len(folder.read("bad.jsonl")) == 1


def test_late_events_are_counted_and_kept(folder: Folder) -> None:
    folder.write(
        "logins.jsonl", lines([login("a", 10, "FAILED"), login("b", 7.999, "FAILED"), login("c", 8, "FAILED")])
    )
    done = folder.run("run", "logins.cep", "--late", "late.jsonl")
    assert "1 late event (in late.jsonl)" in done.summary
    assert [row["user"] for row in folder.read("late.jsonl")] == ["b"]


def test_an_empty_file(folder: Folder) -> None:
    folder.write("logins.jsonl", b"")
    done = folder.run("run", "logins.cep")
    assert (done.code, done.out) == (0, "")
    assert done.summary.startswith("0 events, 0 matches")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "logins.cep", "-i", "nowhere.jsonl"], 3, "nowhere.jsonl"),
        (["run", "nowhere.cep"], 3, "nowhere.cep: no such file"),
        (["run", "logins.cep", "-o", "/dev/full"], 4, "no space left on device"),
        (["run", "logins.cep", "-o", "no/such/folder.jsonl"], 4, "no/such"),
        (["run", "logins.cep", "-o", "logins.jsonl"], 2, "would overwrite the input"),
        (["run", "logins.cep", "-i", "logns=logins.jsonl"], 1, "did you mean `logins`?"),
        (["run", "logins.cep", "-p", "2", "-o", "/dev/full"], 4, "no space left on device"),
        (["rnu", "logins.cep"], 2, "did you mean `run`?"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(folder: Folder, arguments: list[str], code: int, said: str) -> None:
    done = folder.run(*arguments)
    assert done.code == code
    assert said in done.err
    errors = [line for line in done.err.splitlines() if line.startswith(("ostinato:", "Error:"))]
    assert len(errors) <= 1
    assert "Traceback" not in done.err
    assert (folder.path / "logins.jsonl").stat().st_size > 0


def test_an_invalid_program(folder: Folder) -> None:
    folder.write(
        "logins.cep", (folder.path / "logins.cep").read_text().replace("status = 'FAILED'", "statsu = 'FAILED'")
    )
    done = folder.run("run", "logins.cep")
    assert done.code == 1
    assert re.search(r"logins\.cep:\d+:\d+: .*statsu", done.err)
    assert "did you mean `status`?" in done.err


def test_a_full_disk_behind_standard_output(folder: Folder) -> None:
    with Path("/dev/full").open("wb") as full:
        process = folder.start("run", "logins.cep", stdout=full)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 4
    assert b"cannot write <stdout>: no space left on device" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_closed_pipe_ends_quietly(folder: Folder, workers: str) -> None:
    folder.write("logins.jsonl", lines([event for n in range(300) for event in attack(f"user{n}", 10 * n)]))
    process = folder.start("run", "logins.cep", "-p", workers)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c(folder: Folder, workers: str, eventually: Callable[[Callable[[], Any]], Any]) -> None:
    process = folder.start("run", "logins.cep", "-i", "-", "-o", "alerts.jsonl", "-p", workers, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(lines([*attack("eve", 0), login("bob", 60, "SUCCESS")]))
    process.stdin.flush()
    eventually(lambda: (folder.path / "alerts.jsonl").exists() and folder.read("alerts.jsonl"))
    children = _children(process.pid)
    assert len(children) == (0 if workers == "1" else 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.decode().startswith("interrupted: 5 events, 1 match")
    assert [row["user"] for row in folder.read("alerts.jsonl")] == ["eve"]
    eventually(lambda: not any(_alive(child) for child in children))


@pytest.mark.parametrize("whom", ["a worker", "the parent"])
def test_sudden_death_leaves_no_orphan(
    folder: Folder, whom: str, eventually: Callable[[Callable[[], Any]], Any]
) -> None:
    process = folder.start("run", "logins.cep", "-i", "-", "-p", "2", "-o", "alerts.jsonl", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(lines([*attack("eve", 0), login("bob", 60, "SUCCESS")]))
    process.stdin.flush()
    eventually(lambda: (folder.path / "alerts.jsonl").exists() and folder.read("alerts.jsonl"))
    children = _children(process.pid)
    assert len(children) == 2
    os.kill(children[0] if whom == "a worker" else process.pid, signal.SIGKILL)
    if whom == "a worker":
        _, err = process.communicate(timeout=30)
        assert process.returncode == 6
        assert re.match(rf"ostinato: worker \d \(process {children[0]}\) was killed by SIGKILL", err.decode())
        assert len(err.decode().splitlines()) == 2
    else:
        process.communicate(timeout=30)
    eventually(lambda: not any(_alive(child) for child in children))


def test_a_python_condition_that_raises(folder: Folder) -> None:
    folder.write(
        "app.py",
        """
from ostinato import cep

class Login(cep.Event, key="user", time="ts"):
    user: str
    ts: int
    status: str

def broken(event):
    return {}[event.user]

@cep.pattern("a b", on=Login, a=broken)
def found(match):
    return {"user": match.key}
""",
    )
    done = folder.run("run", "app.py", "--input", "logins.jsonl")
    assert done.code == 6
    assert "KeyError" in done.err
    assert "Traceback" not in done.err


def test_a_module_that_cannot_be_imported(folder: Folder) -> None:
    folder.write("app.py", "import nothing_of_this_name\n")
    done = folder.run("run", "app.py")
    assert done.code == 3
    assert done.err.startswith("ostinato: app.py:1: ModuleNotFoundError")


def test_a_very_long_line(folder: Folder) -> None:
    long = b'{"user":"' + b"x" * 150_000 + f'","ts":{START_MS},"status":"FAILED"}}\n'.encode()
    folder.write("logins.jsonl", lines([long, *attack("eve", 0)]))
    done = folder.run("run", "logins.cep")
    assert done.summary.startswith("5 events, 1 match")


def _children(parent: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return sorted(found)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
