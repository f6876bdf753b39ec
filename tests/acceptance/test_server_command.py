"""`ostinato server` and `ostinato config`, as installed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ostinato.server import exits

COMMAND = [sys.executable, "-m", "ostinato.server.cli"]
START_SECONDS = 60.0


class Server:
    """A server process on a free port, from its ready line to its end."""

    def __init__(self, folder: Path, *options: str) -> None:
        # what it says goes into files: a pipe that nobody reads would stop it
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*COMMAND, "server", "--port", "0", *options], cwd=folder, stdout=out, stderr=err, env=environment()
            )

    def url(self) -> str:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if found := re.search(r"^ready: (\S+)$", self.said, re.MULTILINE):
                return found[1]
            assert self.process.poll() is None, self.said
            time.sleep(0.02)
        raise AssertionError(f"it was not ready: {self.said}")

    @property
    def said(self) -> str:
        return self._out.read_text() + self._err.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OSTINATO__")}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.kill()
    made.process.wait()


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment() | variables, capture_output=True, text=True, timeout=60
    )


def test_the_first_start_and_the_next(server: Server, tmp_path: Path) -> None:
    url = server.url()
    data = tmp_path / "ostinato-data"
    token = (data / "token").read_text().strip()
    assert server.said.count(token) == 1
    assert f"token: {token}\n" in server.said
    for name, mode in (("", 0o700), ("token", 0o600), ("catalog.sqlite", 0o600), ("lock", 0o600)):
        assert (data / name).stat().st_mode & 0o777 == mode, name
    headers = {"authorization": f"Bearer {token}"}
    found = httpx.get(f"{url}/v1/server", headers=headers).json()
    assert (found["who"], found["role"], found["url"]) == ("operator", "operator", url)
    assert httpx.get(f"{url}/v1/server").status_code == 401
    announced = json.loads((data / "server.json").read_text())
    assert (announced["pid"], announced["url"]) == (server.process.pid, url)

    second = run(tmp_path, "server", "--port", "0")
    assert second.returncode == exits.TAKEN
    assert f"another server (pid {server.process.pid}) has the data directory" in second.stderr

    taken = run(tmp_path, "server", "--data-dir", "other", "--port", url.rpartition(":")[2])
    assert taken.returncode == exits.TAKEN
    assert "choose another with --port" in taken.stderr

    assert server.end() == exits.TERMINATED
    assert not (data / "server.json").exists()

    # the next one keeps who it is and who may use it, and makes another token where all are lost
    again = Server(tmp_path, "--new-token")
    try:
        url = again.url()
        assert token not in again.said
        other = (data / "token").read_text().strip()
        assert other != token
        for one in (token, other):
            headers = {"authorization": f"Bearer {one}"}
            assert httpx.get(f"{url}/v1/server", headers=headers).json()["id"] == found["id"]
        names = [one["name"] for one in httpx.get(f"{url}/v1/tokens", headers=headers).json()["items"]]
        assert names == ["operator", "operator-2"]
    finally:
        assert again.end(signal.SIGINT) == exits.INTERRUPTED


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "set tls.cert and tls.key"),
        (["--port", "x"], "--port: `x` is no whole number"),
        (["--config", "missing.toml"], "missing.toml: cannot be read"),
        (["--log-level", "loud"], "`loud` is none of debug, info, warning, error"),
    ],
)
def test_what_is_not_started(options: list[str], said: str, tmp_path: Path) -> None:
    done = run(tmp_path, "server", *options)
    assert done.returncode == exits.CONFIG
    assert said in done.stderr
    assert not (tmp_path / "ostinato-data").exists()


def test_without_tokens_it_is_not_for_others(tmp_path: Path) -> None:
    (tmp_path / "ostinato.toml").write_text(
        "[server]\nhost = '0.0.0.0'\n[tls]\ncert = 'a'\nkey = 'b'\n[auth]\nenabled = false\n"
    )
    done = run(tmp_path, "server")
    assert done.returncode == exits.CONFIG
    assert "auth.enabled = false" in done.stderr


def test_a_data_directory_that_others_see_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ostinato-data").mkdir(mode=0o755)
    done = run(tmp_path, "server")
    assert done.returncode == exits.STATE
    assert "chmod 700" in done.stderr


def test_certificates_that_are_none_are_said_before_anything_is_opened(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("nothing")
    (tmp_path / "ostinato.toml").write_text("[tls]\ncert = 'cert.pem'\nkey = 'key.pem'\n")
    broken = run(tmp_path, "server", "--port", "0")
    assert broken.returncode == exits.CONFIG
    assert "tls.cert and tls.key cannot be used" in broken.stderr


def test_config_show_and_check(tmp_path: Path) -> None:
    (tmp_path / "ostinato.toml").write_text("[server]\nport = 7\n")
    shown = run(
        tmp_path, "config", "show", "--origin", OSTINATO__JOURNAL__RETENTION="2d", OSTINATO__TLS__KEY_PASSWORD="x"
    )
    assert re.search(r"^port = 7 +# ostinato.toml:2$", shown.stdout, re.MULTILINE)
    assert re.search(r'^retention = "2d" +# \$OSTINATO__JOURNAL__RETENTION$', shown.stdout, re.MULTILINE)
    assert 'key_password = "***"' in shown.stdout
    document = json.loads(run(tmp_path, "config", "show", "--json", "--origin").stdout)
    assert document["settings"]["server"]["port"] == 7
    assert document["origins"]["server.host"] == "default"
    assert run(tmp_path, "config", "check").returncode == exits.OK
    wrong = run(tmp_path, "config", "check", OSTINATO__JORNAL__RETENTION="2d")
    assert wrong.returncode == exits.CONFIG
    assert "did you mean `journal`?" in wrong.stderr
    problems = json.loads(run(tmp_path, "config", "check", "--json", OSTINATO__SERVER__PORT="x").stdout)["problems"]
    assert problems == [{"where": "$OSTINATO__SERVER__PORT", "message": "`x` is no whole number", "hint": None}]


def test_a_port_of_another_process(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = run(tmp_path, "server", "--port", str(other.getsockname()[1]))
    assert done.returncode == exits.TAKEN
