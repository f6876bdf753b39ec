"""Jobs between topics as processes of their own, on the core that is theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from inputs import BENCH
from measure import BenchError, ostinato

INTERVAL = "100ms"
_END_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[set[int], set[int]]:
    """Those for what is measured, and those for the broker, Redis and who looks on."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    every = os.sched_getaffinity(0)
    measured = {max(every)}
    return measured, every - measured or measured


@contextmanager
def on(allowed: set[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores; empty: on any."""
    if not allowed:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def job_command(
    servers: str, name: str, source: str, target: str, *options: str, program: str = "p1_login.cep"
) -> list[str]:
    """A pattern file from one topic to another."""
    topics = ["-i", f"kafka:{source}", "-o", f"kafka:{target}", "--kafka", servers]
    return [
        *(ostinato(), "run", str(BENCH / program), *topics, "--name", name, "--interval", INTERVAL),
        *("--json", "--no-progress", *options),
    ]


class Worker:
    """A process that runs until it is told to end."""

    def __init__(self, command: Sequence[str], folder: Path, allowed: set[int]) -> None:
        """`folder`: for what it says, and a registry of running jobs; `allowed`: cores."""
        self._messages = folder / f"worker-{time.monotonic_ns()}.err"
        self.began = time.perf_counter()
        with self._messages.open("wb") as messages, on(allowed):
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=messages,
                env=os.environ | {"OSTINATO_RUNTIME_DIR": str(folder)},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()

    @property
    def said(self) -> str:
        return self._messages.read_text(errors="replace")

    def check(self) -> None:
        """Raise where it does not run any more."""
        if self._process.poll() is not None:
            raise BenchError(f"a worker ended with {self._process.returncode}\n{self.said}")

    def cpu_seconds(self) -> float:
        """So far, of all its threads; 0 where it is not known."""
        stat = Path(f"/proc/{self._process.pid}/stat")
        if not stat.exists():
            return 0.0
        user, system = stat.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS

    def peak_bytes(self) -> int:
        """The largest resident set so far; 0 where it is not known."""
        status = Path(f"/proc/{self._process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)

    def terminate(self) -> None:
        """SIGTERM: it is to end in good order."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> dict[str, Any]:
        """Wait for that; its summary."""
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchError(f"a worker did not end within {_END_SECONDS:g} s\n{self.said}") from None
        lines = [line for line in self.said.splitlines() if line.startswith("{")]
        if not lines:
            raise BenchError(f"a worker ended without a summary\n{self.said}")
        found: dict[str, Any] = json.loads(lines[-1])
        return found

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
