"""How a job takes checkpoints, and what came of them, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Keep: TypeAlias = Literal["never", "on_cancel", "always"]


@dataclass(frozen=True, slots=True)
class CheckpointOptions:
    """When checkpoints are taken and how long they are kept. Times in milliseconds.

    Attributes:
        interval_ms: from the beginning of one to that of the next; None: only savepoints, and one when the job ends.
        min_pause_ms: from the end of one to the beginning of the next, at least.
        timeout_ms: one that has not been completed by then is given up.
        retained: so many of the newest are kept; older ones are there for the day the newest is found damaged.
        keep: whether those are kept when the job is cancelled, or even when its input has ended. A job that fails or
            is stopped by a signal keeps them always.
        allow_dropped_state: on restore, state that has no place in the job any more may be dropped.
        tolerable_failures: more failed ones than this in a row fail the job; None: however many, a failed checkpoint
            costs nothing but time after the next restart.
        incremental: only what has changed is written.
    """

    interval_ms: int | None = 10_000
    min_pause_ms: int = 0
    timeout_ms: int = 600_000
    retained: int = 2
    keep: Keep = "on_cancel"
    allow_dropped_state: bool = False
    tolerable_failures: int | None = None
    incremental: bool = True

    def __post_init__(self) -> None:
        if self.interval_ms is not None and self.interval_ms < 1:
            raise ValueError(f"the interval of checkpoints must be positive, not {self.interval_ms} ms")
        if self.timeout_ms < 1:
            raise ValueError(f"the timeout of checkpoints must be positive, not {self.timeout_ms} ms")
        if self.retained < 1:
            raise ValueError(f"at least one checkpoint must be retained, not {self.retained}")


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A completed checkpoint or savepoint.

    Attributes:
        id: counts up within a store.
        savepoint: whether it was asked for.
        address: of the store it is in.
        taken_at: wall clock at the barrier, epoch ms.
        seconds: from the barrier until it was durable.
        bytes_written: by this one.
        bytes_total: all that it refers to, what earlier ones have written included.
        phases: seconds spent in each part: ``barrier`` (until it had passed all workers), ``snapshot`` (operators were
            asked; the slowest worker), ``write`` (blobs; the slowest worker), ``commit`` (the manifest), ``publish``
            (sinks). The job stands still only in ``snapshot`` and ``publish``.
    """

    id: int
    savepoint: bool
    address: str
    taken_at: int
    seconds: float
    bytes_written: int
    bytes_total: int
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class CheckpointStatistics:
    """Of all checkpoints of a running job, those before a restart included.

    `age_seconds`: what the job would fall back by now if it failed; None while there is no checkpoint.
    """

    completed: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    last: CheckpointInfo | None = None
    last_savepoint: CheckpointInfo | None = None
    last_failure: str | None = None
    in_progress: int | None = None
    bytes_written: int = 0
    longest_seconds: float = 0.0
    restored: int | None = None
    age_seconds: float | None = None
