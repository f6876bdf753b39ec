"""What the parts of the server count, as the numbers of `ostinato.server.metrics`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ostinato.cep.batch import MIN_TIME
from ostinato.cep.runtime.occupation import OUTPUT
from ostinato.server.metrics import (
    Buckets,
    CheckpointNumbers,
    JobNumbers,
    JournalNumbers,
    MatchNumbers,
    OutputNumbers,
    PartitionNumbers,
    PatternNumbers,
    SplitNumbers,
    StreamNumbers,
)

if TYPE_CHECKING:
    from ostinato.server.delivery.hub import HubCounts
    from ostinato.server.delivery.status import OutputStatus
    from ostinato.server.journal.writer import JournalStatus


def live_numbers(
    status: Mapping[str, Any],
    versions: Mapping[str, tuple[str, int]],
    now_ms: int,
    *,
    restarts: int = 0,
    lag: Mapping[tuple[str, str], int] | None = None,
) -> JobNumbers:
    """The job of the server's patterns.

    Args:
        status: what the live worker answers to ``status``.
        versions: name of each that runs, as the engine has it (``p@3``) -> pattern and version.
        now_ms: epoch ms.
        restarts: of the worker, since the server began.
        lag: by stream and lane, how many records its source has that have not been read.
    """
    latency, snapshot = status["latency"], status["snapshot"]
    busy = sum(status["busy_seconds"].values())
    return JobNumbers(
        patterns=_patterns(status["patterns"], versions),
        streams=tuple(
            StreamNumbers(
                stream=name,
                events=each["rows"],
                late=each["late"],
                dead_letters=each["dead_letters"],
                buffered=each["waiting"],
            )
            for name, each in status["streams"].items()
        ),
        splits=tuple(
            SplitNumbers(
                stream=name,
                partition=lane,
                watermark_lag_seconds=max(0, now_ms - place["max_time"] + (stream["delay_ms"] or 0)) / 1000,
                consumer_lag=(lag or {}).get((name, lane)),
            )
            for name, stream in status["streams"].items()
            for lane, place in stream["lanes"].items()
            if place["max_time"] is not None
        ),
        partitions=(
            PartitionNumbers(
                partition="0",
                busy_seconds=busy,
                idle_seconds=status["idle_seconds"],
                backpressured_seconds=status["busy_seconds"].get(OUTPUT, 0.0),
            ),
        ),
        checkpoints=CheckpointNumbers(
            completed=status["snapshots"],
            failed=status["failed_snapshots"],
            seconds=None if snapshot is None else snapshot["seconds"],
            bytes=None if snapshot is None else snapshot["bytes"],
            at_ms=None if snapshot is None else snapshot["at_ms"],
        ),
        latency=Buckets(tuple(latency["bounds"]), tuple(latency["counts"]), latency["sum"]),
        state_bytes=status["state_bytes"],
        restarts=restarts,
        recovery_seconds=status["recovery_seconds"],
        uptime_seconds=status["uptime_seconds"],
    )  # fmt: skip


def job_numbers(
    name: str, status: Mapping[str, Any], restarts: int, uptime_seconds: float | None, now_ms: int
) -> JobNumbers:
    """A job of the server, of all its streams and patterns together: their labels are empty.

    Args:
        name: of the job.
        status: what it answers to ``status``, see `ostinato.server.presence`; empty: it does not run.
        restarts: of its process, besides those that it made itself.
        uptime_seconds: since it was last begun.
        now_ms: epoch ms.
    """
    if not status:
        return JobNumbers(job=name, restarts=restarts)
    # those of jobs between topics are part of their transactions
    taken: Mapping[str, Any] | None = status.get("checkpoints")
    last: Mapping[str, Any] = (taken or {}).get("last") or {}
    partitions: Mapping[str, Any] = status.get("partitions") or {}
    time = status["time"]
    return JobNumbers(
        job=name,
        patterns=(
            PatternNumbers(pattern="", matches=status["matches"], partial_matches=status["partial_matches"]),
        ),
        streams=(
            StreamNumbers(stream="", events=status["events"], late=status["late"], dead_letters=status["bad"]),
        ),
        partitions=(
            PartitionNumbers(
                busy_seconds=time["busy_seconds"],
                idle_seconds=time["idle_seconds"],
                backpressured_seconds=time["backpressured_seconds"],
            ),
            *(
                PartitionNumbers(
                    partition=partition,
                    commits=each["commits"],
                    aborts=each["aborts"],
                    commit_seconds=each["commit_seconds"],
                )
                for partition, each in partitions.items()
            ),
        ),
        splits=tuple(
            SplitNumbers(
                stream=stream,
                partition=partition,
                watermark_lag_seconds=_behind(each["watermarks"].get(stream), now_ms),
                consumer_lag=lag,
            )
            for partition, each in partitions.items()
            for stream, lag in each["lag"].items()
        ),
        checkpoints=None
        if taken is None
        else CheckpointNumbers(
            completed=taken.get("completed", 0),
            failed=taken.get("failed", 0),
            seconds=last.get("seconds"),
            bytes=last.get("bytes_total"),
            at_ms=last.get("taken_at"),
        ),
        rebalances=status["rebalances"] if partitions else None,
        restarts=restarts + status["restarts"],
        uptime_seconds=uptime_seconds,
    )  # fmt: skip


def _behind(watermark: int | None, now_ms: int) -> float | None:
    """Seconds; None where time has not begun."""
    return None if watermark is None or watermark <= MIN_TIME else max(0, now_ms - watermark) / 1000


def journal_numbers(status: JournalStatus, seen: int) -> JournalNumbers:
    """`seen`: how far the live worker has come in it."""
    return JournalNumbers(
        position=status.durable,
        seen=seen,
        bytes=status.bytes,
        appends=status.appends,
        duplicates=status.duplicates,
        syncs=status.groups,
        sync_seconds=status.sync_seconds,
        refused_busy=status.refused_busy,
        refused_full=status.refused_full,
    )


def match_numbers(first_seq: int, last_seq: int, counts: HubCounts) -> MatchNumbers:
    """Of the match log, and of those who follow it."""
    return MatchNumbers(
        first_seq=first_seq,
        last_seq=last_seq,
        followers=counts.followers,
        behind=counts.behind,
        sent=counts.sent,
        lost=counts.lost,
    )


def output_numbers(statuses: Mapping[str, OutputStatus]) -> tuple[OutputNumbers, ...]:
    """Of all outputs."""
    return tuple(
        OutputNumbers(
            output=name,
            is_up=status.state == "running",
            lag=status.lag,
            delivered=status.delivered,
            retries=status.retries,
            dead_letters=status.dead_letters,
            lost=status.lost,
        )
        for name, status in statuses.items()
    )


def _patterns(
    counted: Mapping[str, Mapping[str, int]], versions: Mapping[str, tuple[str, int]]
) -> tuple[PatternNumbers, ...]:
    """By pattern and version. One version may run twice, as it drains and as what follows it: they are added up."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for name, numbers in counted.items():
        into = found.setdefault(versions.get(name, (name, 0)), {})
        for what in ("matches", "timeouts", "partial_matches", "dropped"):
            count = numbers.get(what, 0)
            into[what] = into.get(what, 0) + count
    return tuple(
        PatternNumbers(pattern=pattern, version=version, **numbers) for (pattern, version), numbers in found.items()
    )
