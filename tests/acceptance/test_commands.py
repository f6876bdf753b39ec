"""`check`, `fmt`, `explain`, help and version; and what they must not load."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.server import exits

from .conftest import Folder

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def test_check_says_everything_at_once(folder: Folder) -> None:
    text = (folder.path / "logins.cep").read_text()
    folder.write("bad.cep", text.replace("status = 'FAILED'", "statsu = 'FAILED'").replace("ok.ip", "okay.ip"))
    assert folder.run("check", "logins.cep").code == 0
    done = folder.run("check", "bad.cep", "logins.cep")
    assert done.code == 1
    assert re.search(r"bad\.cep:\d+:\d+: .*statsu", done.err)
    assert re.search(r"bad\.cep:\d+:\d+: .*okay", done.err)
    said = json.loads(folder.run("check", "--json", "bad.cep", "logins.cep").out)
    assert said["files"] == 2
    assert {(problem["file"], problem["line"]) for problem in said["problems"]} == {("bad.cep", 13), ("bad.cep", 17)}


def test_check_of_a_missing_file(folder: Folder) -> None:
    done = folder.run("check", "nowhere.cep")
    assert done.code == 3
    assert "nowhere.cep: no such file" in done.err


def test_fmt(folder: Folder) -> None:
    text = (folder.path / "logins.cep").read_text()
    assert folder.run("fmt", "--check", "logins.cep").code == 1
    assert (folder.path / "logins.cep").read_text() == text
    shown = folder.run("fmt", "--stdout", "logins.cep")
    assert (folder.path / "logins.cep").read_text() == text
    assert folder.run("fmt", "logins.cep").code == 0
    assert (folder.path / "logins.cep").read_text() == shown.out
    assert folder.run("fmt", "--check", "logins.cep").code == 0
    assert folder.run("fmt", "-", stdin=text.encode()).out == shown.out


def test_explain(folder: Folder) -> None:
    text = folder.run("explain", "logins.cep").out
    assert "status = 'FAILED'" in text
    assert "[vectorised]" in text
    assert folder.run("explain", "logins.cep", "suspicious_login", "--format", "dot").out.startswith("digraph")
    assert folder.run("explain", "logins.cep", "--format", "svg").out.startswith("<svg")
    wrong = folder.run("explain", "logins.cep", "suspicius_login")
    assert wrong.code == 2
    assert "did you mean `suspicious_login`?" in wrong.err


def test_version(folder: Folder) -> None:
    assert re.fullmatch(r"ostinato \d+\.\d+\.\d+\S*\n", folder.run("--version").out)


@pytest.mark.parametrize("command", ["run", "check", "fmt", "explain"])
def test_help(folder: Folder, command: str) -> None:
    assert f"{command}  " in folder.run("--help").out
    assert "Usage: ostinato " + command in folder.run(command, "--help").out


def test_exit_codes_are_documented_where_users_look(folder: Folder) -> None:
    documented = dict(re.findall(r"^\| (\d+) \| (.+) \|$", DOCS.read_text(), re.MULTILINE))
    assert documented == {str(code): meaning for code, meaning in exits.MEANINGS.items()}
    shown = " ".join(folder.run("--help").out.split())
    for code, meaning in exits.MEANINGS.items():
        assert f"{code} {meaning}" in shown


@pytest.mark.parametrize("arguments", [["--help"], ["check", "logins.cep"], ["fmt", "--check", "logins.cep"]])
def test_quick_commands_leave_the_engine_alone(folder: Folder, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom ostinato.server.cli import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'numba', 'pyarrow', 'rich'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder.path, check=True, capture_output=True)
