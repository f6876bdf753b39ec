"""The example with a process function: what it lets through, in any number of workers, killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import Folder, attack, lines

EXAMPLE = Path(__file__).parents[2] / "examples" / "login" / "quiet_alerts.py"
QUIET_SECONDS = 600


@pytest.fixture
def app(folder: Folder) -> Folder:
    """The example, reading its input in small chunks: there are many places to be killed at."""
    text = EXAMPLE.read_text("utf-8")
    source = "source=Connector('file', 'logins.jsonl', 'json', (('chunk_bytes', 1000),))"
    text = text.replace('delay="2 s"', f'delay="2 s", {source}')
    text = text.replace(
        "from ostinato import cep", "from ostinato import cep\nfrom ostinato.patterns.ast import Connector"
    )
    folder.write("app.py", text)
    events = []
    for second in range(0, 2_000, 10):
        events += attack(f"user{second // 10 * 7 % 5}", second, 3 + second % 3)
    folder.write("logins.jsonl", lines(events))
    return folder


def run(folder: Folder, name: str, *options: str) -> int:
    done = folder.run("run", "app.py", "-o", f"{name}.jsonl", "--no-progress", *options)
    assert done.code in (0, -9), done.err
    return done.code


def expected(folder: Folder) -> list[dict[str, Any]]:
    """The same by a loop over the events."""
    failures: dict[str, int] = {}
    quiet_until: dict[str, int] = {}
    suppressed: dict[str, int] = {}
    rows = []
    for event in sorted(folder.read("logins.jsonl"), key=lambda e: e["ts"]):
        user = event["user"]
        if event["status"] == "FAILED":
            failures[user] = failures.get(user, 0) + 1
            continue
        count, failures[user] = failures.get(user, 0), 0
        if count < 3:
            continue
        if event["ts"] < quiet_until.get(user, 0):
            suppressed[user] = suppressed.get(user, 0) + 1
            continue
        quiet_until[user] = event["ts"] + QUIET_SECONDS * 1_000
        rows.append({"user": user, "failures": count, "ip": event["ip"], "suppressed": suppressed.pop(user, 0)})
    return rows


def shown(folder: Folder, name: str) -> list[dict[str, Any]]:
    return [{column: row[column] for column in row if column != "match_time"} for row in folder.read(f"{name}.jsonl")]


def test_one_alert_in_ten_minutes(app: Folder) -> None:
    assert run(app, "whole") == 0
    assert shown(app, "whole") == expected(app)
    assert 10 < len(expected(app)) < 100


@pytest.mark.parametrize(
    "options",
    [["-p", "2"], ["-p", "3"], ["--state-backend", "rocksdb"], ["-p", "2", "--state-backend", "rocksdb"]],
    ids=" ".join,
)
def test_any_number_of_workers_gives_the_same(app: Folder, options: list[str]) -> None:
    assert run(app, "whole") == run(app, "other", *options) == 0
    assert app.read("other.jsonl") == app.read("whole.jsonl")


def test_killed_and_resumed_with_other_workers(app: Folder) -> None:
    assert run(app, "whole") == 0
    store = ["--checkpoint-dir", "checkpoints", "--interval", "1ms", "--keep-checkpoints", "always", "--resume-if-any"]
    killed = 0
    for fault, options in [
        ("checkpoint.commit:3=kill", ["-p", "1"]),
        ("checkpoint.committed:2=kill", ["-p", "2", "--state-backend", "rocksdb"]),
        ("sink.publishing:2=kill", ["-p", "1", "--state-backend", "rocksdb"]),
        ("checkpoint.barrier:3=kill", ["-p", "3"]),
    ]:
        app.environment["OSTINATO_FAULT"] = fault
        killed += run(app, "killed", *store, *options) == -9
    del app.environment["OSTINATO_FAULT"]
    assert killed >= 2
    assert run(app, "killed", *store) == 0
    assert app.read("killed.jsonl") == app.read("whole.jsonl")


def test_one_keys_state_can_be_looked_at(app: Folder) -> None:
    store = ["--checkpoint-dir", "checkpoints", "--interval", "1ms", "--keep-checkpoints", "always"]
    app.environment["OSTINATO_FAULT"] = "checkpoint.committed:3=kill"
    assert run(app, "killed", *store) == -9
    del app.environment["OSTINATO_FAULT"]
    done = app.run("state", "show", "checkpoints", "--operator", "quiet_alerts.process", "--key", "user0")
    assert done.code == 0, done.err
    assert "lately" in done.out
