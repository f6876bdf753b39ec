"""A job that outlives its failures: begun again from its newest whole checkpoint, as its restart strategy says.

A failure of any part, a worker that was killed as well as an exception in somebody's function, ends the whole attempt:
all workers are gone before the next one begins. It begins with a larger fencing token, so whatever of an earlier
attempt may still run somewhere cannot write any more.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, TypeAlias, cast

from ostinato.cep.connectors.base import ConnectorError, SinkError, SourceError
from ostinato.cep.connectors.kafka.errors import LostOffsetsError, TooLargeError
from ostinato.cep.runtime.attempt import Attempt, Ending
from ostinato.cep.runtime.checkpoints import CheckpointStatistics
from ostinato.cep.runtime.commands import CommandError, Commands, JobState, JobStatus, What
from ostinato.cep.runtime.coordinator import Checkpointing, Coordinator
from ostinato.cep.runtime.job import Outlet, TransactionalOutlet
from ostinato.cep.runtime.load import LoadError
from ostinato.cep.runtime.outputs import StrictError
from ostinato.cep.runtime.partition import KEY_GROUPS
from ostinato.cep.runtime.recovery import Candidates, RestorePoint
from ostinato.cep.runtime.restarts import ExponentialDelay, NoRestart, RestartStrategy
from ostinato.cep.runtime.statistics import Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.patterns.errors import PatternError
from ostinato.state.errors import (
    DroppedStateError,
    DurabilityError,
    FencedError,
    OccupiedError,
    SnapshotError,
    StateError,
    StoreError,
)
from ostinato.state.steps import reached

_LOOKING_SECONDS: Final = 0.02
"""How often a job that waits to be begun again looks whether somebody wants something."""

Resume: TypeAlias = Literal["refuse", "require", "if_any"]
"""What to do where the store has checkpoints: refuse to begin anew; go on, and refuse where there are none; go on where
there are some."""


class ResumeError(StateError):
    """There are checkpoints and nobody said to go on from them, or there are none to go on from."""


class RunningJob(Protocol):
    """`LocalJob` and `ParallelJob`. One that is made has been restored."""

    statistics: Statistics
    ending: Ending | None

    @property
    def repeatable(self) -> bool:
        """Can all sources be read a second time?"""

    @property
    def processes(self) -> tuple[int, ...]: ...

    def run(self, stop: Stop) -> None: ...

    def close(self) -> None: ...


class SupervisedJob:
    """Runs a job until it ends, or fails for good."""

    def __init__(
        self,
        make: Callable[[Attempt], RunningJob],
        outlet: Outlet,
        *,
        checkpointing: Checkpointing | None = None,
        restarts: RestartStrategy | None = None,
        commands: Commands | None = None,
        resume: Resume = "refuse",
        savepoint: RestorePoint | None = None,
        key_groups: int = KEY_GROUPS,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        """
        Args:
            make: opens the sources and makes the job, for each attempt anew.
            outlet: where results go; with checkpoints a `TransactionalOutlet`. It lives through all attempts.
            checkpointing: None: the job takes no checkpoints, and its first failure is its last.
            restarts: by default ``exponential-delay`` with checkpoints, as in Flink.
            commands: what others ask of the job.
            resume: see there.
            savepoint: where to begin, whatever else is in the store.
            key_groups: of the job.
            announce: is given what the user has to know.
        """
        self.state = JobState.CREATED
        self.restarts = 0
        self.failure: str | None = None
        self._make = make
        self._outlet = outlet
        self._commands = commands or Commands()
        self._resume = resume
        self._savepoint = savepoint
        self._announce = announce
        self._coordinator: Coordinator | None = None
        self._candidates: Candidates | None = None
        self._transactional: TransactionalOutlet | None = None
        if checkpointing is not None:
            assert hasattr(outlet, "prepare"), "a job with checkpoints needs an outlet that takes part in them"
            self._transactional = transactional = cast("TransactionalOutlet", outlet)
            self._coordinator = Coordinator(checkpointing, transactional, key_groups=key_groups, announce=announce)
            may_drop = checkpointing.options.allow_dropped_state
            self._candidates = Candidates(checkpointing.store, may_drop=may_drop)
        elif restarts is not None and not isinstance(restarts, NoRestart):
            raise ValueError(
                f"{restarts}: a job without checkpoints cannot be begun again: its output would come twice"
            )
        self._strategy = restarts or (NoRestart() if checkpointing is None else ExponentialDelay())
        self._job: RunningJob | None = None
        self._statistics = Statistics()

    @property
    def statistics(self) -> Statistics:
        """Of the attempt that runs, or of the last one; what was counted before a checkpoint goes on counting."""
        return self._statistics if self._job is None else self._job.statistics

    @property
    def checkpoints(self) -> CheckpointStatistics | None:
        """Of all attempts; None where the job takes none."""
        return None if self._coordinator is None else self._coordinator.current_statistics()

    @property
    def ending(self) -> Ending | None:
        """How the job has ended; None while it runs, or where it failed."""
        return None if self._job is None else self._job.ending

    def status(self) -> JobStatus:
        """What there is to say about the job; from any thread."""
        job = self._job
        processes = () if job is None else job.processes
        return JobStatus(self.state, self.statistics, self.checkpoints, self.restarts, self.failure, processes)

    def run(self, stop: Stop) -> None:
        """Run until the job ends.

        Raises:
            ResumeError: see `Resume`.
            FencedError, OccupiedError: somebody else runs the job, or owns the store.
            SnapshotError: no checkpoint can be used.
            Exception: whatever failed the job, when it is not begun again.
        """
        self._commands.attach(self.status)
        try:
            self._run(stop)
        except BaseException:
            self.state = JobState.FAILED
            raise
        finally:
            self._commands.close("the job has ended")
            if self._coordinator is not None:
                self._coordinator.close()

    def _run(self, stop: Stop) -> None:
        self.state = JobState.INITIALIZING
        if self._coordinator is not None:
            self._coordinator.acquire()
            self._decide()
        is_new = True
        while True:
            began = time.monotonic()
            point: RestorePoint | None = None
            try:
                if not is_new and self._coordinator is not None:
                    self._coordinator.renew()
                point = self._find_point()
                self._attempt(point, stop)
                return
            except StopRequested:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
                failure = error
            has_run = self.state == JobState.RUNNING
            self.state = JobState.FAILING
            is_new = False
            self._clear_away()
            if self._turn_down(point, failure):
                continue
            self._await_restart(failure, began, stop, has_run=has_run)

    def _decide(self) -> None:
        """May the job begin here, and from what?"""
        assert self._coordinator is not None
        assert self._candidates is not None
        store = self._coordinator.setup.store
        entries = store.entries()
        if self._savepoint is not None:
            self._candidates.ignore(entries)
        elif self._resume == "refuse" and entries:
            newest = entries[0]
            kind = "savepoint" if newest.savepoint else "checkpoint"
            when = datetime.fromtimestamp(newest.taken_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            raise ResumeError(
                f"{store.address} has checkpoints already (the newest: {kind} {newest.id} of {when}): go on from it "
                "with --resume, from a savepoint with -s, or begin anew in another place"
            )
        elif self._resume == "require" and not entries:
            raise ResumeError(
                f"there is no checkpoint in {store.address} to go on from; check the place, or begin anew without "
                "--resume (--resume-if-any does so by itself)"
            )
        elif self._resume == "if_any" and not entries:
            self._announce(f"there is no checkpoint in {store.address}: the job begins at the beginning")

    def _find_point(self) -> RestorePoint | None:
        """Where to go on from: the newest checkpoint that is not known to be damaged, else where the job began."""
        if self._candidates is None:
            return None
        point, said = self._candidates.newest()
        for line in said:
            self._announce(f"{line}; an older checkpoint is used")
        return point or self._savepoint

    def _attempt(self, point: RestorePoint | None, stop: Stop) -> None:
        coordinator, outlet = self._coordinator, self._transactional
        if coordinator is not None and outlet is not None:
            if point is not None:
                reached("restore.manifest")
                self._announce(f"going on from {point.name}")
            assert self._candidates is not None
            coordinator.note_damaged(self._candidates.damaged)

        def recover() -> None:
            # The job calls it when all of the state has been read, by all workers: a checkpoint that turns out to be
            # damaged must not have taken back what was published after it.
            if outlet is not None:
                outlet.recover(None if point is None else point.manifest.sinks)
                reached("restore.sinks")

        self._job = self._make(Attempt(coordinator, point, self._commands, recover))
        self.state = JobState.RUNNING
        self._job.run(stop)
        self._finish(self._job)

    def _finish(self, job: RunningJob) -> None:
        """The job has come to an end that is no failure."""
        ending = job.ending
        coordinator, outlet = self._coordinator, self._transactional
        if coordinator is not None and outlet is not None:
            keep = coordinator.setup.options.keep
            if ending == Ending.FINISHED:
                outlet.finish()
                reached("finish.published")
            is_over = ending in (Ending.FINISHED, Ending.STOPPED) and keep != "always"
            if is_over or (ending == Ending.CANCELED and keep == "never"):
                try:
                    coordinator.delete_all()
                except FencedError:
                    raise
                except StoreError as error:
                    self._announce(f"the job has ended, but its checkpoints could not be deleted: {error}")
        states = {Ending.SUSPENDED: JobState.SUSPENDED, Ending.CANCELED: JobState.CANCELED}
        self.state = states.get(ending, JobState.FINISHED) if ending is not None else JobState.FINISHED
        job.close()

    # Failures

    def _clear_away(self) -> None:
        """Nothing of the failed attempt is left when this returns: no process, no thread that writes."""
        if self._job is not None:
            self._statistics = self._job.statistics
            self._job.close()
        if self._coordinator is not None:
            self._coordinator.settle()
        reached("restart.ended")

    def _turn_down(self, point: RestorePoint | None, failure: Exception) -> bool:
        """Was it the checkpoint that was at fault, and is there another one to try at once?"""
        if not isinstance(failure, SnapshotError) or isinstance(failure, DroppedStateError):
            return False
        if point is None or point is self._savepoint or self._candidates is None:
            return False
        self._candidates.refuse(point, failure)
        self._announce(f"{point.name} cannot be used: {failure}")
        return True

    def _await_restart(self, failure: Exception, began: float, stop: Stop, *, has_run: bool) -> None:
        """Wait as long as the strategy says; raises the failure where it says that this was the end."""
        self.failure = str(failure) or type(failure).__name__
        is_wrong = isinstance(failure, ConnectorError) and not has_run and not self.restarts
        if is_final(failure) or is_wrong or stop.requested or isinstance(self._strategy, NoRestart):
            raise failure
        if self._job is not None and not self._job.repeatable:
            self._announce("the job cannot be begun again: one of its sources can be read only once")
            raise failure
        now = time.monotonic()
        delay = self._strategy.next_delay_ms(round(now * 1000), round((now - began) * 1000))
        if delay is None:
            self._announce(f"the job is given up after {self.restarts + 1} failures: {self._strategy}")
            raise failure
        self.state = JobState.RESTARTING
        self._announce(f"the job has failed: {self.failure}; it is begun again in {delay / 1000:g} s")
        while time.monotonic() < now + delay / 1000:
            if stop.requested:
                raise failure
            while (request := self._commands.take()) is not None:
                if request.what == What.CANCEL:
                    request.answer(None)
                    raise failure
                request.refuse(CommandError(f"the job has failed ({self.failure}) and waits to be begun again"))
            time.sleep(_LOOKING_SECONDS)
        self.restarts += 1


def is_final(failure: Exception) -> bool:
    """Would the same happen again, or must the job not go on?"""
    if isinstance(failure, (FencedError, OccupiedError, DurabilityError, SnapshotError, ResumeError)):
        return True
    if isinstance(failure, (LostOffsetsError, TooLargeError)):
        return True
    if isinstance(failure, (PatternError, LoadError, StrictError)):
        return True
    if isinstance(failure, SinkError):
        cause = failure.__cause__
        return isinstance(cause, OSError) and cause.errno == errno.EPIPE
    return isinstance(failure, ConnectorError) and not isinstance(failure, SourceError)
