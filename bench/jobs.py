"""Jobs that are looked at while they run, and services that they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from inputs import BENCH
from measure import BenchError, Measured, messages_of, ostinato, run

_PATIENCE_SECONDS = 600.0
_LOOKING_SECONDS = 0.25


def taking_turns(
    commands: Mapping[str, Sequence[str]], repeats: int, output: Path, begin: Callable[[str], None]
) -> dict[str, list[tuple[Measured, dict[str, Any]]]]:
    """Run commands with ``--json`` one after the other, several times; `begin` is told which one comes.

    Returns by name what was measured, and the summary that the run printed.
    """
    taken: dict[str, list[tuple[Measured, dict[str, Any]]]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            begin(name)
            measured = run([*command, "--json"], output)
            taken[name].append((measured, summary(output)))
    return taken


def summary(output: Path) -> dict[str, Any]:
    """What a run with ``--json`` has said at its end."""
    last = messages_of(output).read_text().strip().splitlines()[-1]
    found: dict[str, Any] = json.loads(last)
    return found


class Running:
    """A job that follows its input, with its output in a pipe."""

    def __init__(self, command: Sequence[str], folder: Path, name: str) -> None:
        """`folder`: of a registry of running jobs; `name`: the job's."""
        self.name = name
        self._environment = os.environ | {"OSTINATO_RUNTIME_DIR": str(folder)}
        self._messages = folder / f"{name}.err"
        self._began = time.perf_counter()
        with self._messages.open("wb") as messages:
            self._process = subprocess.Popen(
                [*command, "--follow", "--name", name],
                stdout=subprocess.PIPE,
                stderr=messages,
                env=self._environment,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def first_output(self) -> tuple[float, float]:
        """Seconds from the start of the process to its first byte of output, and CPU seconds (0 where not known)."""
        assert self._process.stdout is not None
        if not os.read(self._process.stdout.fileno(), 1 << 16):
            raise BenchError(f"{self.name} ended\n{self._messages.read_text(errors='replace')}")
        seconds = time.perf_counter() - self._began
        times = Path(f"/proc/{self._process.pid}/stat")
        if not times.exists():
            return seconds, 0.0
        user, system = times.read_text().rpartition(")")[2].split()[11:13]
        return seconds, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self) -> int:
        """The largest resident set so far; 0 where it is not known."""
        status = Path(f"/proc/{self._process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)

    def status(self) -> dict[str, Any] | None:
        """What ``ostinato list`` says of it; None where it is not listed yet, or does not answer."""
        said = subprocess.run(
            [ostinato(), "list", "--json"], env=self._environment, capture_output=True, text=True, check=True
        )
        jobs: list[dict[str, Any]] = json.loads(said.stdout)["jobs"]
        return next((job for job in jobs if job["name"] == self.name and "events" in job), None)

    def wait_for(self, what: str, reached: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Look again and again until `reached`; all that was seen on the way."""
        seen = []
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            status = self.status()
            if status is not None:
                seen.append(status)
                if reached(status):
                    return seen
            time.sleep(_LOOKING_SECONDS)
        messages = self._messages.read_text(errors="replace")
        raise BenchError(f"{self.name}: {what} did not come\n{seen[-1:]}\n{messages}")

    def savepoint(self) -> dict[str, Any]:
        """Take one."""
        said = subprocess.run(
            [ostinato(), "savepoint", self.name, "--json"],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if said.returncode:
            raise BenchError(f"{self.name}: no savepoint: {said.stderr}")
        found: dict[str, Any] = json.loads(said.stdout)
        return found

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def redis() -> Iterator[str]:
    """The address of a Redis of one's own, which syncs each write."""
    process = subprocess.Popen(
        [sys.executable, str(BENCH / "serve_redis.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise BenchError("no Redis could be started; apt-get install redis-server")
        yield address
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def empty_redis(address: str) -> None:
    """Forget all that is in it."""
    from redis import Redis

    client = Redis.from_url(address)
    try:
        client.flushall()
    finally:
        client.close()
