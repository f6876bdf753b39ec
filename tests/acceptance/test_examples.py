"""The examples, the benchmark's patterns and what the README shows run as they are."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ostinato.patterns import ast, check_program, parse_program

from .conftest import Folder

ROOT = Path(__file__).parents[2]
LOGIN = ROOT / "examples" / "login"
SSHD = ROOT / "examples" / "sshd" / "failed_passwords.cep"
README = (ROOT / "README.md").read_text("utf-8")


def generate(folder: Folder, stream: str, events: int) -> Path:
    path = folder.path / f"{stream}.jsonl"
    runpy.run_path(str(ROOT / "bench" / "streams.py"))["write_file"](stream, events, path)
    return path


def plain(workload: str, events: Path) -> int:
    command = [sys.executable, str(ROOT / "bench" / "plain.py"), workload, str(events)]
    return int(json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["matches"])


@pytest.mark.parametrize(
    ("pattern", "workload", "stream"),
    [
        ("p1_login", "p1", "login"),
        ("p2_fraud", "p2", "txn"),
        ("p3_trend", "p3", "tick"),
        ("p4_any", "p4", "tick"),
        ("p6_many", "p6", "login"),
    ],
)
def test_benchmark_patterns_find_what_the_loops_find(folder: Folder, pattern: str, workload: str, stream: str) -> None:
    events = generate(folder, stream, 3_000)
    done = folder.run("run", str(ROOT / "bench" / f"{pattern}.cep"), "--input", str(events))
    assert done.code == 0
    found = sum(row.get("matches", 1) for row in done.rows)
    assert found == plain(workload, events) > 0


def test_file_and_decorators_find_the_same(folder: Folder) -> None:
    events = generate(folder, "login", 5_000)
    written, declared = (
        folder.run("run", str(LOGIN / f"suspicious_login.{kind}"), "--input", str(events)) for kind in ("cep", "py")
    )
    assert [{key: row[key] for key in row if key != "since"} for row in written.rows] == declared.rows
    assert len(written.rows) == plain("p1", events) > 0


def test_demonstration(folder: Folder) -> None:
    command = [sys.executable, str(LOGIN / "demo.py"), "--events", "5000", "--rows", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=folder.environment, check=True)
    table = done.stdout.split("\n\n")[1].splitlines()
    assert table[1].split() == ["user", "failures", "since", "ip", "match_time"]
    assert [bool(re.match(r"u\d+ +[3-9]  2023-11-1", line)) for line in table[3:5]] == [True, True]
    assert re.search(r"^5,000 events, \d\d matches .*events/s, 0 late events", done.stderr, re.MULTILINE)


class TestReadme:
    def test_file_is_the_example(self) -> None:
        assert f"```sql\n{pattern_of((LOGIN / 'suspicious_login.cep').read_text())}```" in README

    def test_python_makes_the_pattern_of_the_file(self) -> None:
        namespace: dict[str, Any] = {}
        for block in re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
            exec(compile(block, "README.md", "exec", dont_inherit=True), namespace)
        program = check_program(parse_program((LOGIN / "suspicious_login.cep").read_text()))
        (pattern,) = (checked.pattern for checked in program.patterns)
        declared = namespace["suspicious_login"].ast
        built = namespace["built"].to_ast("suspicious_login", namespace["Login"])
        assert matched_by(declared) == matched_by(built) == matched_by(pattern)
        assert set(declared.emit) < set(pattern.emit)


def pattern_of(text: str) -> str:
    """The file without its opening comment."""
    return text[text.index("stream ") :]


def matched_by(pattern: ast.Pattern) -> tuple[Any, ...]:
    """What decides what matches."""
    return pattern.items, pattern.within_ms, pattern.skip


def sshd(second: int, addr: str, user: str = "root", *, more: str = "Failed password for") -> str:
    minute, second = divmod(second, 60)
    time = f"Mar  1 10:{minute:02}:{second:02}"
    return f"{time} host sshd[7]: {more} {user} from {addr} port 4711 ssh2\n"


class TestSshd:
    def run(self, folder: Folder, *lines: str) -> list[dict[str, Any]]:
        log = folder.write("auth.log", "".join(lines))
        done = folder.run("run", str(SSHD), "--input", str(log))
        assert done.code == 0, done.err
        return done.rows

    def test_one_alert_for_a_burst(self, folder: Folder) -> None:
        lines = [sshd(59 * n, "10.0.0.1", f"user{n % 3}") for n in range(7)]
        (alert,) = self.run(folder, *lines)
        year = alert["first_time"][:4]
        assert alert["addr"] == "10.0.0.1"
        assert alert["failures"] == 7
        assert alert["users"] == ["user0", "user1", "user2"]
        assert alert["first_time"] == f"{year}-03-01T10:00:00.000Z"
        assert alert["last_time"] == f"{year}-03-01T10:05:54.000Z"

    def test_four_are_no_burst(self, folder: Folder) -> None:
        assert self.run(folder, *(sshd(n, "10.0.0.1") for n in range(4))) == []

    def test_a_pause_of_a_minute_ends_a_burst(self, folder: Folder) -> None:
        first = [sshd(10 * n, "10.0.0.1") for n in range(5)]
        later = [sshd(100 + n, "10.0.0.1") for n in range(6)]
        assert [alert["failures"] for alert in self.run(folder, *first, *later)] == [5, 6]

    def test_addresses_are_looked_at_one_by_one(self, folder: Folder) -> None:
        lines = [sshd(n, f"10.0.0.{n % 3}") for n in range(15)]
        assert sorted(alert["addr"] for alert in self.run(folder, *lines)) == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]

    def test_other_lines_do_not_count_and_do_not_end_it(self, folder: Folder) -> None:
        other = "Mar  1 10:00:03 host sshd[7]: Connection closed by 10.0.0.1 [preauth]\n"
        accepted = sshd(4, "10.0.0.1", more="Accepted password for")
        lines = [sshd(1, "10.0.0.1"), other, accepted, *(sshd(n, "10.0.0.1") for n in range(5, 9))]
        assert [alert["failures"] for alert in self.run(folder, *lines)] == [5]

    def test_users_that_do_not_exist_and_odd_names(self, folder: Folder) -> None:
        names = ["invalid user admin", "invalid user  0101", "invalid user from 1.2.3.4", "root", "root"]
        lines = [sshd(n, "10.0.0.1", name) for n, name in enumerate(names)]
        (alert,) = self.run(folder, *lines)
        assert alert["users"] == ["admin", " 0101", "from 1.2.3.4", "root"]

    def test_folded_lines_count_as_often_as_they_say(self, folder: Folder) -> None:
        once = sshd(9, "10.0.0.1", more="message repeated 5 times: [ Failed password for")
        folded = once.rstrip() + "]\n"
        (alert,) = self.run(folder, sshd(0, "10.0.0.1"), folded)
        assert alert["failures"] == 6
        assert alert["last_time"].endswith("T10:00:09.000Z")

    def test_windows_line_ends(self, folder: Folder) -> None:
        lines = [sshd(n, "10.0.0.1").replace("\n", "\r\n") for n in range(5)]
        assert [alert["failures"] for alert in self.run(folder, *lines)] == [5]
