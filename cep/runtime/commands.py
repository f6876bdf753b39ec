"""Requests to a running job, from any thread. The job takes them between two entries of its input."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ostinato.cep.runtime.checkpoints import CheckpointInfo, CheckpointStatistics
from ostinato.cep.runtime.statistics import Statistics


class CommandError(Exception):
    """A request was not carried out; the message says why. The job goes on, or has ended."""


class JobState(Enum):
    """Where a job is in its life; Flink's names."""

    CREATED = "CREATED"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    FAILING = "FAILING"
    RESTARTING = "RESTARTING"
    CANCELLING = "CANCELLING"
    FINISHED = "FINISHED"
    CANCELED = "CANCELED"
    SUSPENDED = "SUSPENDED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job at a moment.

    Attributes:
        state: see `JobState`; SUSPENDED is one that was stopped and can be resumed.
        statistics: as of now; not to be changed.
        checkpoints: the same, None where the job takes none.
        restarts: how many times it was begun again after a failure.
        failure: what the last failure was.
        processes: of the workers, by their number; empty where the job runs in one process.
    """

    state: JobState
    statistics: Statistics
    checkpoints: CheckpointStatistics | None = None
    restarts: int = 0
    failure: str | None = None
    processes: tuple[int, ...] = ()


class What(Enum):
    """The kinds of requests that a job has to deal with in order."""

    SAVEPOINT = "savepoint"
    STOP = "stop"
    CANCEL = "cancel"


@dataclass(slots=True)
class Request:
    """A request, and where its answer goes. `target`: the address of another store for the savepoint."""

    what: What
    target: str | None = None
    drain: bool = False
    future: Future[Any] = field(default_factory=Future)

    def answer(self, value: Any) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def refuse(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Commands:
    """The way in to a running job.

    Futures fail with `CommandError` where the job has ended or failed before it came to the request, and with
    `StateError` where a savepoint could not be written.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[Request] = deque()
        self._closed: str | None = None
        self._status: Callable[[], JobStatus] | None = None
        self._wake: Callable[[], None] = lambda: None

    def savepoint(self, target: str | None = None) -> Future[CheckpointInfo]:
        """Take a savepoint, in the job's own store or in that of an address."""
        return self._ask(Request(What.SAVEPOINT, target))

    def stop(self, target: str | None = None, drain: bool = False) -> Future[CheckpointInfo]:
        """Take a savepoint and stop; the output up to it is published. If the savepoint fails, the job goes on.

        `drain`: first let time come to its end, so that all that waits for time comes out: for jobs that will not go
        on later.
        """
        return self._ask(Request(What.STOP, target, drain))

    def cancel(self) -> Future[None]:
        """End without a savepoint. What came since the last checkpoint is not published."""
        return self._ask(Request(What.CANCEL))

    def status(self) -> Future[JobStatus]:
        """What the job does and has done; answered at once."""
        future: Future[JobStatus] = Future()
        provider = self._status
        try:
            if provider is None:
                future.set_result(JobStatus(JobState.CREATED, Statistics()))
            else:
                future.set_result(provider())
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            future.set_exception(error)
        return future

    # The job's side

    def attach(self, status: Callable[[], JobStatus]) -> None:
        """Say what answers `status`; may be called from any thread."""
        self._status = status

    def on_request(self, wake: Callable[[], None]) -> None:
        """What to call, in the asking thread, when a request has come."""
        self._wake = wake

    @property
    def pending(self) -> bool:
        """Is there anything to take?"""
        return bool(self._requests)

    def take(self) -> Request | None:
        """The oldest request, None where there is none."""
        with self._lock:
            return self._requests.popleft() if self._requests else None

    def close(self, why: str) -> None:
        """The job has ended: refuse what is left and all that comes."""
        with self._lock:
            self._closed = why
            left, self._requests = list(self._requests), deque()
        for request in left:
            request.refuse(CommandError(why))

    def _ask(self, request: Request) -> Future[Any]:
        with self._lock:
            closed = self._closed
            if closed is None:
                self._requests.append(request)
        if closed is not None:
            request.refuse(CommandError(closed))
        else:
            self._wake()
        return request.future
