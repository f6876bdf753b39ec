"""The installed command, driven as a user drives it: real processes in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

LOGINS = """
stream logins (
  user   string key,
  ts     timestamp(ms) time delay 2 s,
  status string,
  ip     string
) from file 'logins.jsonl'

param attempts = 3

pattern suspicious_login on logins
  match  fail{attempts,} ok
  define fail as status = 'FAILED',
         ok   as status = 'SUCCESS'
  within 5 min
  after match skip past last
  emit   user, count(fail) as failures, first(fail.ts) as since, ok.ip as ip
  into   alerts
"""

START_MS = 1_700_000_000_000


def login(user: str, second: float, status: str, ip: str = "10.0.0.1") -> dict[str, Any]:
    return {"user": user, "ts": START_MS + int(second * 1000), "status": status, "ip": ip}


def attack(user: str, second: float, failures: int = 3) -> list[dict[str, Any]]:
    """So many failed logins, a second apart, and then a successful one."""
    return [
        *(login(user, second + n, "FAILED") for n in range(failures)),
        login(user, second + failures, "SUCCESS", ip=f"10.0.0.{failures}"),
    ]


def lines(events: Sequence[Any]) -> bytes:
    return b"".join(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n" for event in events)


class Folder:
    """A folder with a program in it, and the command to run there.

    Kernels are not compiled: the inputs are small, and a test should not wait for a compiler.
    """

    def __init__(self, path: Path, bytecode: Path) -> None:
        """`bytecode`: where processes keep their compiled modules, so that not every one compiles them anew."""
        self.path = path
        self.command = [str(Path(sys.executable).with_name("ostinato"))]
        own = {
            "NUMBA_DISABLE_JIT": "1",
            "PYTHONWARNINGS": "error",
            "PYTHONPYCACHEPREFIX": str(bytecode),
            "COLUMNS": "200",
            "OSTINATO_RUNTIME_DIR": str(path / "running"),
        }
        self.environment = {**os.environ, **own}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def write(self, name: str, content: str | bytes) -> Path:
        target = self.path / name
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def read(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of a file; each must be whole."""
        text = (self.path / name).read_text()
        assert not text or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*self.command, *arguments], cwd=self.path, env=self.environment, **{**pipes, **options}
        )

    def run(self, *arguments: str, stdin: bytes = b"") -> Finished:
        process = self.start(*arguments, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=60)
        return Finished(process.returncode, out.decode(), err.decode())


class Finished:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Standard output, which must be nothing but JSON objects, a line each."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def summary(self) -> str:
        return self.err.splitlines()[-1]


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def folder(tmp_path: Path, bytecode: Path) -> Folder:
    found = Folder(tmp_path, bytecode)
    found.write("logins.cep", LOGINS)
    found.write("logins.jsonl", lines([*attack("eve", 0), login("bob", 10, "SUCCESS"), *attack("mallory", 20, 4)]))
    return found


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Wait until something holds, and give it."""
    import time

    def wait(holds: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 60
        while True:
            found = holds()
            if found or time.monotonic() > deadline:
                assert found, "waited for a minute in vain"
                return found
            time.sleep(0.02)

    return wait
