"""One run of a job's graph, from its beginning or a checkpoint to an end or a failure, and what may end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from ostinato.cep.runtime.commands import CommandError, Commands, Request, What
from ostinato.cep.runtime.coordinator import CheckpointError, Coordinator
from ostinato.cep.runtime.plan import Plan
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.cep.runtime.statistics import PatternNumbers, Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.state.manifest import SourceState
from ostinato.state.steps import reached

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 10.0
"""Between two attempts at the last checkpoint: as a store needs that is being restarted."""
_LOOKING_SECONDS: Final = 0.02


class Ending(Enum):
    """How a run has come to an end that is no failure.

    FINISHED: the input has ended, or was drained; STOPPED: with a savepoint; SUSPENDED: by a signal or a limit, with a
    last checkpoint; CANCELED: as it was.
    """

    FINISHED = "FINISHED"
    STOPPED = "STOPPED"
    SUSPENDED = "SUSPENDED"
    CANCELED = "CANCELED"


@dataclass(slots=True)
class Attempt:
    """What a run is given besides the job itself.

    Attributes:
        coordinator: of its checkpoints, None where it takes none.
        point: where it goes on from, None: from the beginning.
        commands: what others ask of it.
        recover: to be called once the job has its state and before anything is delivered: lets the sinks begin.
        cancelled: somebody has asked that it end as it is.
    """

    coordinator: Coordinator | None = None
    point: RestorePoint | None = None
    commands: Commands = field(default_factory=Commands)
    recover: Callable[[], None] = lambda: None
    cancelled: bool = False

    @property
    def pending(self) -> bool:
        """Has the loop anything to look at?"""
        return self.coordinator is not None or self.commands.pending

    def take_requests(self) -> bool:
        """Pass requests on to the coordinator; True where the job has been cancelled."""
        while (request := self.commands.take()) is not None:
            if request.what == What.CANCEL:
                self.cancelled = True
                request.answer(None)
                return True
            if self.coordinator is None:
                refuse(request)
            else:
                self.coordinator.request(request)
        return False


def last_checkpoint(
    coordinator: Coordinator, ending: Ending, attempt: Attempt, stop: Stop, step: Callable[[], None]
) -> None:
    """Take one more checkpoint, so that all output is published.

    At the end of the input it is tried until it succeeds, or the job is cancelled or stopped: nothing else would
    publish what has been found. On a signal it is tried once. `step` lets it go on, and waits a moment.

    Raises:
        StateError: it failed; or the store has another owner.
    """
    if ending == Ending.FINISHED:
        reached("finish.begin")
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            coordinator.want_last()
            while coordinator.busy:
                step()
                if attempt.take_requests():
                    return
            return
        except CheckpointError:
            if ending != Ending.FINISHED or coordinator.is_hopeless or stop.requested:
                raise
        until = time.monotonic() + pause
        while time.monotonic() < until:
            if attempt.take_requests():
                return
            time.sleep(_LOOKING_SECONDS)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def conclude(
    coordinator: Coordinator, ending: Ending, attempt: Attempt, stop: Stop, step: Callable[[], None], *, is_torn: bool
) -> Ending:
    """Take the last checkpoint of a run; returns how the run has ended.

    `is_torn`: a second signal has cut through an entry. Raises as `last_checkpoint` does.
    """
    try:
        if is_torn:
            raise StopRequested
        last_checkpoint(coordinator, ending, attempt, stop, step)
    except StopRequested:
        # Asked twice: not even the last checkpoint is waited for, and in the middle of an entry there can be none.
        ending = Ending.SUSPENDED
        attempt.take_requests()
    return Ending.CANCELED if attempt.cancelled else ending


def refuse(request: Request) -> None:
    """There is nowhere to put a savepoint's bookkeeping."""
    request.refuse(
        CommandError(
            "the job takes no checkpoints, so its output cannot be cut at a savepoint; run it with "
            "--checkpoint-dir DIR or --checkpoint-redis URL"
        )
    )


# What goes on counting after a restart


def counters_of(statistics: Statistics) -> dict[str, int]:
    """The numbers that a checkpoint keeps."""
    found = {name: getattr(statistics, name) for name in ("events", "bad", "late", "bytes")}
    for name, numbers in statistics.patterns.items():
        found |= {f"{name}.{what}": getattr(numbers, what) for what in ("matches", "timeouts", "dropped")}
    return found


def resume_counters(statistics: Statistics, counters: Mapping[str, int]) -> dict[str, PatternNumbers]:
    """Let the numbers go on. Returns what the patterns had done, which has to be added to what they do."""
    for name in ("events", "bad", "late", "bytes"):
        setattr(statistics, name, counters.get(name, 0))
    statistics.resumed = statistics.events
    patterns: dict[str, PatternNumbers] = {}
    for name, value in counters.items():
        pattern, dot, what = name.rpartition(".")
        if dot:
            setattr(patterns.setdefault(pattern, PatternNumbers()), what, value)
    statistics.set_patterns([patterns])
    return patterns


def source_states(
    plan: Plan, positions: Sequence[Mapping[int, Mapping[str, Any]]], times: Sequence[Mapping[str, Any]]
) -> list[SourceState]:
    """Where the sources stand, as a manifest has it."""
    return [
        SourceState(stream.name, dict(place), dict(time))
        for stream, place, time in zip(plan.sources, positions, times, strict=True)
    ]
