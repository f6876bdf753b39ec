"""A running job as others on this machine see it: listed, and listening."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ostinato.cep.runtime.checkpoints import CheckpointStatistics
from ostinato.cep.runtime.commands import Commands, JobStatus
from ostinato.cep.runtime.occupation import OUTPUT, OperatorTimes
from ostinato.cep.runtime.statistics import Statistics
from ostinato.server.control import ControlSocket, checkpoint_values
from ostinato.server.registry import Registration, RegistryError, runtime_folder

_RATE_SECONDS = 10.0
"""Over how long the rate is taken that `list` shows."""
_INSISTING_SECONDS = 0.5


class Presence:
    """Lists this process's job from `begin` to `end`."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.interrupted = False
        """The job was cancelled and did not stir, so that it was interrupted."""
        self.id: str | None = None
        self._registration: Registration | None = None
        self._control: ControlSocket | None = None
        self._ended = threading.Event()
        self._rate = Rate()

    def begin(self, *, name: str, parallelism: int, program: str, checkpoints: str | None) -> str | None:
        """List the job. Returns why that cannot be done, where it cannot."""
        registration: Registration | None = None
        try:
            registration = Registration(
                runtime_folder(), name=name, parallelism=parallelism, program=program, checkpoints=checkpoints
            )
            self._control = ControlSocket(
                registration.socket_path, name, self.commands, self._describe, self._interrupt
            )
            registration.publish()
        except (RegistryError, OSError) as error:
            if registration is not None:
                registration.close()
            return str(error)
        self._registration = registration
        self.id = registration.entry.id
        return None

    def note(self, statistics: Statistics) -> None:
        """Take part in the rate; called a few times a second."""
        self._rate.note(statistics.events)

    def end(self) -> None:
        """The job is gone; whoever waits for that hears it now. The commands are closed."""
        self._ended.set()
        if self._registration is not None:
            self._registration.close()
        if self._control is not None:
            self._control.close()
        self._registration = self._control = None

    def _describe(self) -> Mapping[str, Any]:
        status = self.commands.status().result()
        return describe(status, self._rate.per_second(status.statistics.events))

    def _interrupt(self) -> None:
        """Have the main thread end its wait, whatever it waits for; as often as it begins to wait again."""
        self.interrupted = True
        main = threading.main_thread().ident
        assert main is not None
        while not self._ended.wait(_INSISTING_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                signal.pthread_kill(main, signal.SIGTERM)


class Rate:
    """Events per second over the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, events: int) -> None:
        """So many have been read by now, those of earlier runs included."""
        now = self._clock()
        if self._seen and events < self._seen[-1][1]:  # begun again from a checkpoint
            self._seen.clear()
        if not self._seen or now - self._seen[-1][0] >= 1.0:
            self._seen.append((now, events))
        while len(self._seen) > 1 and now - self._seen[1][0] >= _RATE_SECONDS:
            self._seen.popleft()

    def per_second(self, events: int) -> float:
        """With so many as of now."""
        seen = list(self._seen)
        if not seen:
            return 0.0
        passed = self._clock() - seen[0][0]
        return max(0, events - seen[0][1]) / passed if passed > 0 else 0.0


def describe(status: JobStatus, rate: float) -> dict[str, Any]:
    """A job's status as plain values."""
    numbers = status.statistics
    occupation = numbers.measure()
    processes = occupation.workers or [occupation.operators]
    return {
        "state": status.state.value,
        "pid": os.getpid(),
        "processes": list(status.processes),
        "events": numbers.events,
        "events_per_second": round(rate),
        "matches": numbers.matches,
        "late": numbers.late,
        "bad": numbers.bad,
        "partial_matches": sum(each.partial_matches for each in numbers.patterns.values()),
        "checkpoints": checkpoint_numbers(status.checkpoints),
        "partitions": {name: dataclasses.asdict(each) for name, each in numbers.partitions.items()},
        "rebalances": numbers.rebalances,
        "restarts": status.restarts,
        "failure": status.failure,
        "time": time_values(sum(map(whole_process, processes), OperatorTimes(0.0, 0.0, 0.0))),
        "operators": operator_values(occupation.operators),
        "workers": [operator_values(worker) for worker in occupation.workers],
    }


def checkpoint_numbers(checkpoints: CheckpointStatistics | None) -> dict[str, Any] | None:
    """What came of a job's checkpoints, None where it takes none."""
    if checkpoints is None:
        return None
    last, savepoint = checkpoints.last, checkpoints.last_savepoint
    return {
        "completed": checkpoints.completed,
        "failed": checkpoints.failed,
        "failed_in_a_row": checkpoints.failed_in_a_row,
        "last_failure": checkpoints.last_failure,
        "in_progress": checkpoints.in_progress,
        "restored": checkpoints.restored,
        "age_seconds": None if checkpoints.age_seconds is None else round(checkpoints.age_seconds, 1),
        "bytes_written": checkpoints.bytes_written,
        "longest_seconds": round(checkpoints.longest_seconds, 3),
        "last": None if last is None else checkpoint_values(last),
        "last_savepoint": None if savepoint is None else checkpoint_values(savepoint),
    }


def whole_process(operators: Mapping[str, OperatorTimes]) -> OperatorTimes:
    """All operators as if they were one: they take turns, so busy times add up and what is left is idle."""
    inner = {name: times for name, times in operators.items() if name != OUTPUT}
    if not inner:
        return OperatorTimes(0.0, 0.0, 0.0)
    total = max(times.total for times in inner.values())
    busy = min(total, sum(times.busy for times in inner.values()))
    held_up = min(total - busy, max(times.backpressured for times in inner.values()))
    return OperatorTimes(busy, total - busy - held_up, held_up)


def operator_values(operators: Mapping[str, OperatorTimes]) -> dict[str, dict[str, float]]:
    """What the time of each operator goes into."""
    return {name: time_values(times) for name, times in operators.items()}


def time_values(times: OperatorTimes) -> dict[str, float]:
    """Parts of 1, and seconds."""
    busy, idle, backpressured = times.fractions()
    return {
        "busy": round(busy, 4),
        "idle": round(idle, 4),
        "backpressured": round(backpressured, 4),
        "busy_seconds": round(times.busy, 3),
        "idle_seconds": round(times.idle, 3),
        "backpressured_seconds": round(times.backpressured, 3),
    }
