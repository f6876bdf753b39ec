"""Starts, watches, strikes and clears away jobs: the installed command, as users run it.

Every process of a job carries a name in its environment that no other has, so that also those are found whose parent
has died, and none is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from ostinato.state.steps import MARKER_VARIABLE, VARIABLE

T = TypeVar("T")

COMMAND = str(Path(sys.executable).with_name("ostinato"))
NAME_VARIABLE = "OSTINATO_TEST_JOB"
_ELSEWHERE = (
    *("unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))),
    *("sh", "-c", 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"', "elsewhere"),
)
_GUARD = ("setpriv", "--pdeathsig", "KILL")
"""Not even a test process that is killed leaves a job behind."""
WAIT_SECONDS = 100.0
"""For anything that normally takes a second or two, on a machine that is busy with other tests."""


def eventually(
    holds: Callable[[], T | None],
    what: str,
    seconds: float = WAIT_SECONDS,
    every: float = 0.05,
    unless: Callable[[], None] = lambda: None,
) -> T:
    """Wait until `holds` gives something true, and give it; `unless` raises when that cannot come any more."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        unless()
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(every)


def checkpoints_in(folder: str, *, interval: str = "100ms", attempts: int = 10) -> list[str]:
    """Arguments of a job with checkpoints in a directory, that begins again after so many failures."""
    return ["--checkpoint-dir", folder, "--interval", interval, *_restarting(attempts)]


def checkpoints_at(url: str, *, interval: str = "100ms", attempts: int = 10) -> list[str]:
    """The same with checkpoints in Redis."""
    return ["--checkpoint-redis", url, "--interval", interval, *_restarting(attempts)]


def _restarting(attempts: int) -> list[str]:
    return ["--restart", f"fixed-delay attempts={attempts} delay=100ms"]


class Job:
    """A job in a folder, to be started as often as it dies."""

    def __init__(self, folder: Path, *arguments: str, program: str = "job.cep") -> None:
        """`arguments`: of `ostinato run`, behind the program, in each start."""
        self.folder = folder
        self.arguments = ("run", program, "--no-progress", *arguments)
        self.name = uuid.uuid4().hex
        self.starts = 0
        self.log_prefix = "start"
        self._running: list[Running] = []
        self._faults: list[str] = []

    def start(
        self,
        *arguments: str,
        fault: str = "",
        environment: Mapping[str, str] | None = None,
        stdout: int | None = None,
        elsewhere: Path | None = None,
    ) -> Running:
        """Start it once more.

        Args:
            arguments: of this start only.
            fault: what `OSTINATO_FAULT` says; each of its rules strikes once in the life of this job.
            environment: more variables.
            stdout: a file descriptor; `stdout` in the folder otherwise.
            elsewhere: a copy of the folder, which this process sees in its place, as if on another machine.
        """
        own = {NAME_VARIABLE: self.name, "COLUMNS": "200", "PYTHONFAULTHANDLER": "1", **(environment or {})}
        if fault:
            if fault not in self._faults:
                self._faults.append(fault)
            marker = self.folder / f"struck-{self._faults.index(fault)}"
            own |= {VARIABLE: fault, MARKER_VARIABLE: str(marker)}
        prefix = [] if elsewhere is None else [*_ELSEWHERE, str(elsewhere), str(self.folder)]
        log = self.folder / f"{self.log_prefix}-{self.starts}.log"
        self.starts += 1
        with log.open("wb") as errors, (self.folder / "stdout").open("ab") as out:
            process = subprocess.Popen(
                [*_GUARD, *prefix, COMMAND, *self.arguments, *arguments],
                cwd=self.folder,
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=errors,
                process_group=0,
            )
        running = Running(self, process, log)
        self._running.append(running)
        return running

    def struck(self, fault: str, rule: int = 0) -> bool:
        """Has a rule of a fault struck?"""
        return (self.folder / f"struck-{self._faults.index(fault)}.{rule}").exists()

    def processes(self) -> list[int]:
        """All that live, zombies apart, oldest first."""
        return processes_named(self.name)

    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        for running in self._running:
            if running.process.poll() is None:
                running.process.kill()
            running.process.wait()
        deadline = time.monotonic() + 10
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes {left} do not die"
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.02)


class Running:
    """One life of a job."""

    def __init__(self, job: Job, process: subprocess.Popen[bytes], log: Path) -> None:
        self.job = job
        self.process = process
        self.pid = process.pid
        self._log = log

    @property
    def said(self) -> str:
        """What it has written to standard error so far."""
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def is_stopped(self) -> bool:
        """By SIGSTOP."""
        return self.alive and _state(Path(f"/proc/{self.pid}")) == "T"

    def workers(self) -> list[int]:
        """The child processes that live, oldest first."""
        return sorted(pid for pid in self.job.processes() if _parent(pid) == self.pid)

    def wait_for_workers(self, count: int) -> list[int]:
        """Wait until there are so many workers."""
        return self.wait_for(lambda: found if len(found := self.workers()) == count else None, f"{count} workers")

    def wait_for(self, holds: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS) -> T:
        """Wait until something is true while the job runs."""
        return eventually(holds, what, seconds, unless=self.check_alive)

    def wait(self, seconds: float = WAIT_SECONDS) -> int:
        """Wait for its end; the exit code, negative where it was a signal."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the job still runs after {seconds:.0f} s; it said:\n{self.said}") from None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the supervisor, or the only process."""
        self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def stop(self, seconds: float = WAIT_SECONDS) -> int:
        """SIGTERM, once it can deal with that: finish what is begun; the exit code."""
        eventually(lambda: not self.alive or _catches(self.pid, signal.SIGTERM), "the job to mind signals", seconds)
        if self.alive:
            self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def check_alive(self) -> None:
        assert self.alive, f"the job has ended with {self.process.returncode}; it said:\n{self.said}"


def processes_named(name: str) -> list[int]:
    """Those that have a name in `NAME_VARIABLE`, zombies apart, oldest first."""
    return sorted(_carrying(f"{NAME_VARIABLE}={name}".encode()))


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal to a process of a job; was it still there?"""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _catches(pid: int, number: signal.Signals) -> bool:
    """Has a process a handler for a signal? An interpreter that just begins has none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)


def _carrying(entry: bytes) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if entry in (folder / "environ").read_bytes().split(b"\0") and _state(folder) not in "ZX":
                yield int(folder.name)
        except OSError:
            continue  # gone, or somebody else's


def _state(folder: Path) -> str:
    return (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return None
