"""Whole processes, timed from outside: wall time, time to the first byte of output, peak memory.

On Linux a child's peak begins with its parent's size, so whatever imports this should stay small.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

KIB = 1024


class BenchError(Exception):
    """A process that was to be measured failed."""


@dataclass(frozen=True)
class Measured:
    """One run of one process: seconds on the wall, CPU seconds, the largest resident set in bytes, and the
    seconds until its first byte on standard output (None where it wrote none or it was not watched)."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    first_output_s: float | None = None


def run(command: Sequence[str], output: Path, environment: dict[str, str] | None = None) -> Measured:
    """Run a command to its end with its standard output in a file."""
    with output.open("wb") as out, messages_of(output).open("wb") as messages:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=messages, env=_environment(environment))
        return _ended(process, command, started, None, output)


def run_watched(command: Sequence[str], output: Path, environment: dict[str, str] | None = None) -> Measured:
    """The same, through a pipe, noting when the first byte comes."""
    with output.open("wb") as out, messages_of(output).open("wb") as messages:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, env=_environment(environment))
        assert process.stdout is not None
        first = _copy(process.stdout, out, started)
        return _ended(process, command, started, first, output)


def _copy(source: IO[bytes], target: BinaryIO, started: float) -> float | None:
    first = None
    descriptor = source.fileno()
    while block := os.read(descriptor, 1 << 16):
        if first is None:
            first = time.perf_counter() - started
        target.write(block)
    return first


def _ended(
    process: subprocess.Popen[bytes], command: Sequence[str], started: float, first: float | None, output: Path
) -> Measured:
    # wait4 instead of Popen.wait: it gives the peak of this child alone, not of the largest so far
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout is not None:
        process.stdout.close()
    if process.returncode != 0:
        said = messages_of(output).read_text(errors="replace").strip()
        raise BenchError(f"{' '.join(command)} ended with {process.returncode}\n{said}")
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * KIB, first)


def messages_of(output: Path) -> Path:
    """Where a command's standard error is, beside its output."""
    return output.with_name(output.name + ".err")


def _environment(more: dict[str, str] | None) -> dict[str, str]:
    return os.environ | (more or {})


def ostinato() -> str:
    """The command."""
    beside = Path(sys.executable).with_name("ostinato")
    return str(beside) if beside.exists() else shutil.which("ostinato") or "ostinato"


def pin_to_one_core() -> int | None:
    """Let this process and its children run on one core only; its number, or None where that cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def machine() -> str:
    """The processor and the versions that figures depend on, in one line."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"


def load() -> float:
    """How many processes have wanted a core, on average over the last minute."""
    return os.getloadavg()[0]
