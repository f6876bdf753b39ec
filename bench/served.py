"""Servers as processes of their own: Ostinato's, and the bare ones that it is compared with."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from inputs import BENCH
from measure import BenchError, ostinato
from wire import Target, ask

_START_SECONDS = 60.0
_END_SECONDS = 60.0
_LOOK_SECONDS = 0.002
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Served:
    """A server that runs.

    Attributes:
        target: where.
        pid: of its process.
        said: what it writes.
    """

    target: Target
    pid: int
    said: Path

    def children(self) -> list[int]:
        """Its processes besides the first: the live worker, while no job runs."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in found]

    def cpu_seconds(self) -> float:
        """So far, of all its processes."""
        return sum(_cpu_seconds(pid) for pid in (self.pid, *self.children()))

    async def apply(self, program: str, comment: str = "bench") -> dict[str, object]:
        """Have patterns run. Raises BenchError."""
        answer = await ask(self.target, "POST", f"/v1/apply?comment={comment}&old=drop", program.encode(), "text/plain")
        made: dict[str, object] = json.loads(answer)
        if not made["effective"]:
            raise BenchError(f"a change has no effect yet: {made}")
        return made

    async def position(self) -> int:
        """Up to where the live worker has dealt with the journal."""
        return int(json.loads(await ask(self.target, "GET", "/v1/server"))["journal_position"])

    async def reached(self, position: int, seconds: float) -> float:
        """Wait for the live worker; when it was there (`time.perf_counter`). Raises BenchError."""
        until = time.perf_counter() + seconds
        while await self.position() < position:
            if time.perf_counter() > until:
                raise BenchError(f"the live worker is not at {position} after {seconds:g} s\n{self.said.read_text()}")
            await asyncio.sleep(_LOOK_SECONDS)
        return time.perf_counter()


@contextmanager
def server(folder: Path, name: str = "server") -> Iterator[Served]:
    """`ostinato server` with a data directory of its own, ready."""
    data = folder / name
    options = ["--data-dir", str(data), "--port", "0", "--log-format", "text", "--log-level", "warning"]
    own = {"OSTINATO_RUNTIME_DIR": str(folder), "OSTINATO__LIMITS__REQUESTS_PER_SECOND": "0"}
    try:
        with _process([ostinato(), "server", *options], folder / f"{name}.log", own) as (process, url):
            token = (data / "token").read_text().strip()
            yield Served(_target(url, token), process.pid, folder / f"{name}.log")
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def bare(folder: Path, how: str) -> Iterator[Served]:
    """`bench/bare.py`; `how`: what it does with a body."""
    command = [sys.executable, str(BENCH / "bare.py"), how, str(folder / f"{how}.bodies")]
    with _process(command, folder / f"{how}.log", {}) as (process, url):
        yield Served(_target(url), process.pid, folder / f"{how}.log")


@contextmanager
def _process(
    command: Sequence[str], said: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that says `ready: URL` when it is; ended in good order."""
    with said.open("wb") as messages:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=messages, env=os.environ | environment, start_new_session=True
        )
    try:
        assert process.stdout is not None
        url = ""
        while line := process.stdout.readline().decode():
            if line.startswith("ready: "):
                url = line.removeprefix("ready: ").strip()
                break
        if not url:
            raise BenchError(f"{' '.join(command)} did not begin\n{said.read_text(errors='replace')}")
        yield process, url
        process.send_signal(signal.SIGTERM)
        process.wait(_END_SECONDS)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _target(url: str, token: str = "") -> Target:
    parts = urlsplit(url)
    return Target(parts.hostname or "127.0.0.1", parts.port or 80, token)


def _cpu_seconds(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS
