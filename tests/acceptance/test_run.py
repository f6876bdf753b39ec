"""`ostinato run`: matches, where they go, and what is said."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Folder, attack, lines, login

EVE = {
    "user": "eve",
    "failures": 3,
    "since": "2023-11-14T22:13:20.000Z",
    "ip": "10.0.0.3",
    "match_time": "2023-11-14T22:13:23.000Z",
}
MALLORY = {
    "user": "mallory",
    "failures": 4,
    "since": "2023-11-14T22:13:40.000Z",
    "ip": "10.0.0.4",
    "match_time": "2023-11-14T22:13:44.000Z",
}


def test_a_pipe_gets_one_object_per_match_and_nothing_else(folder: Folder) -> None:
    done = folder.run("run", "logins.cep")
    assert done.rows == [EVE, MALLORY]
    assert done.err.count("\n") == 1
    assert done.summary.startswith("10 events, 2 matches, ")
    assert done.summary.endswith("0 late events, 0 bad events")
    assert done.code == 0


def test_a_terminal_gets_a_table(folder: Folder) -> None:
    ours, theirs = pty.openpty()
    process = folder.start("run", "logins.cep", stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # the end of a pty
    process.communicate(timeout=30)
    assert process.returncode == 0
    text = shown.decode()
    assert "failures" in text
    assert "mallory" in text
    assert "{" not in text


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_give_what_one_process_gives(folder: Folder, workers: int) -> None:
    events = [event for n in range(40) for event in attack(f"user{n % 7}", 11 * n, 3 + n % 3)]
    events.insert(50, login("late", 0, "FAILED"))
    folder.write("logins.jsonl", lines(events))
    # small chunks: many of them for each worker
    folder.write(
        "logins.cep",
        (folder.path / "logins.cep").read_text().replace("'logins.jsonl'", "'logins.jsonl' (chunk_bytes = 500)"),
    )
    alone = folder.run("run", "logins.cep", "--json", "--late", "late1.jsonl")
    together = folder.run("run", "logins.cep", "--json", "-p", str(workers), "--late", "late2.jsonl")
    assert len(alone.rows) == 40
    assert together.rows == alone.rows
    assert together.code == 0
    assert folder.read("late1.jsonl") == folder.read("late2.jsonl")
    assert [row["user"] for row in folder.read("late1.jsonl")] == ["late"]
    changing = {"seconds", "events_per_second", "late_file", "operators", "workers"}
    one, other = ({k: v for k, v in json.loads(done.err).items() if k not in changing} for done in (alone, together))
    assert other == one


def test_standard_input(folder: Folder) -> None:
    done = folder.run("run", "logins.cep", "--input", "-", stdin=lines(attack("trent", 0)))
    assert [row["user"] for row in done.rows] == ["trent"]


def test_a_stream_without_a_source_reads_what_is_piped_in(folder: Folder) -> None:
    folder.write("logins.cep", (folder.path / "logins.cep").read_text().replace(" from file 'logins.jsonl'", ""))
    assert len(folder.run("run", "logins.cep", stdin=lines(attack("trent", 0))).rows) == 1
    assert len(folder.run("run", "logins.cep", "--input", "logins=logins.jsonl").rows) == 2


def test_parameters(folder: Folder) -> None:
    assert [row["user"] for row in folder.run("run", "logins.cep", "--param", "attempts=4").rows] == ["mallory"]
    wrong = folder.run("run", "logins.cep", "--param", "atempts=4")
    assert wrong.code == 1
    assert "attempts" in wrong.err


@pytest.mark.parametrize("name", ["alerts.jsonl", "alerts=alerts.jsonl"])
def test_output_to_a_file(folder: Folder, name: str) -> None:
    done = folder.run("run", "logins.cep", "--output", name)
    assert done.out == ""
    assert folder.read("alerts.jsonl") == [EVE, MALLORY]


def test_output_declared_in_the_program(folder: Folder) -> None:
    program = (folder.path / "logins.cep").read_text() + "\noutput alerts to file 'alerts.csv'\n"
    folder.write("logins.cep", program)
    done = folder.run("run", "logins.cep")
    assert done.out == ""
    rows = (folder.path / "alerts.csv").read_text().splitlines()
    assert rows[0] == "user,failures,since,ip,match_time"
    assert len(rows) == 3


def test_limit(folder: Folder) -> None:
    assert folder.run("run", "logins.cep", "--limit", "1").rows == [EVE]
    shown = folder.run("run", "logins.cep", "--show", "1")
    assert shown.rows == [EVE]
    assert shown.summary.startswith("10 events, 2 matches (1 shown), ")


def test_the_summary_as_json(folder: Folder) -> None:
    done = folder.run("run", "logins.cep", "--json")
    said = json.loads(done.err)
    assert (said["events"], said["matches"], said["late"], said["bad"]) == (10, 2, 0, 0)
    assert said["patterns"]["suspicious_login"]["matches"] == 2
    assert said["written"] == {"alerts": 2}


CHAIN = """
pattern raid on alerts
  match  a -> b -> c
  within 1 h
  after match skip past last
  emit   c.user as last_user, a.match_time as since
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_pattern_over_what_another_one_found(folder: Folder, workers: str) -> None:
    # The second pattern has no key, so that matches of all users belong together.
    chain = CHAIN.replace("on alerts", "on alarms")
    program = (folder.path / "logins.cep").read_text()
    program = program.replace("emit   user, ", "emit   concat(user, '') as user, ").replace(
        "into   alerts", "into alarms"
    )
    folder.write("logins.cep", program.replace("'logins.jsonl'", "'logins.jsonl' (chunk_bytes = 300)") + chain)
    folder.write("logins.jsonl", lines([event for n in range(12) for event in attack(f"user{n}", 10 * n)]))
    done = folder.run("run", "logins.cep", "-p", workers)
    assert [row["last_user"] for row in done.rows] == ["user2", "user5", "user8", "user11"]
    assert done.rows[0]["since"] == "2023-11-14T22:13:23.000Z"


def test_several_patterns_share_standard_output(folder: Folder) -> None:
    more = "\npattern first_login on logins match ok define ok as status = 'SUCCESS' emit user\n"
    folder.write("logins.cep", (folder.path / "logins.cep").read_text() + more)
    done = folder.run("run", "logins.cep")
    assert [row for row in done.rows if row["stream"] == "alerts"] == [
        {"stream": "alerts", **row} for row in [EVE, MALLORY]
    ]
    assert sorted(row["user"] for row in done.rows if row["stream"] == "first_login") == ["bob", "eve", "mallory"]


PYTHON = """
from ostinato import cep

class Login(cep.Event, key="user", time="ts", delay="2 s"):
    user: str
    ts: int
    status: str
    ip: str

@cep.pattern("fail{3,} ok", on=Login, within="5 min", skip="past last",
             fail=lambda e: e.status == "FAILED", ok=lambda e: e.status == "SUCCESS")
def suspicious_login(match):
    addresses = set()
    for event in match["fail"]:
        addresses.add(event.ip)
    return {"user": match.key, "from": sorted(addresses), "ok": match["ok"]}
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_python_module(folder: Folder, workers: str) -> None:
    folder.write("app.py", PYTHON)
    done = folder.run("run", "app.py", "--input", "logins.jsonl", "-p", workers)
    assert [row["user"] for row in done.rows] == ["eve", "mallory"]
    assert done.rows[0]["from"] == ["10.0.0.1"]
    assert done.rows[0]["ok"] == login("eve", 3, "SUCCESS", ip="10.0.0.3")


def test_following_a_file(folder: Folder, eventually: Callable[[Callable[[], Any]], Any]) -> None:
    process = folder.start("run", "logins.cep", "--input", "live.jsonl", "--follow", "-o", "alerts.jsonl")
    now = attack("eve", 0)
    folder.write("live.jsonl", lines(now[:2]))
    eventually(lambda: (folder.path / "alerts.jsonl").exists())
    with (folder.path / "live.jsonl").open("ab") as live:
        live.write(lines([*now[2:], login("bob", 60, "SUCCESS")]))
    eventually(lambda: folder.read("alerts.jsonl") == [EVE])
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert err.decode().startswith("terminated: 5 events, 1 match")
