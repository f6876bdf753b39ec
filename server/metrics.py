"""All metrics of the server: their names, what they mean, and how they are made of what its parts count.

docs/metrics.md has the same table; a test holds the two together. Labels name things that somebody has declared: a job,
a pattern, a stream. What events carry, a key above all, is never one: there would be as many series as keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
LABELS: Final = ("job", "pattern", "version", "partition", "stream", "output", "route", "code", "release")
"""All that there may be."""
LIVE: Final = "live"
"""The job of the patterns that were deployed to the server."""


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str


_PATTERN: Final = ("job", "pattern", "version")
_STREAM: Final = ("job", "stream")
_PARTITION: Final = ("job", "partition")
_SPLIT: Final = ("job", "stream", "partition")
_JOB: Final = ("job",)
_OUTPUT: Final = ("output",)

METRICS: Final = (
    Metric("ostinato_events_total", "counter", "events", _STREAM, "Events that were read and understood."),
    Metric("ostinato_events_out_total", "counter", "rows", _STREAM, "Rows that came out, of any kind."),
    Metric(
        "ostinato_late_events_total", "counter", "events", _STREAM, "Events behind the watermark: no pattern saw them."
    ),
    Metric("ostinato_dead_letters_total", "counter", "records", _STREAM, "Records that could not be used."),
    Metric("ostinato_buffered_events", "gauge", "events", _STREAM, "Events that wait for the watermark."),
    Metric("ostinato_matches_total", "counter", "matches", _PATTERN, "Matches."),
    Metric("ostinato_timeouts_total", "counter", "matches", _PATTERN, "Partial matches that `within` ended."),
    Metric("ostinato_partial_matches", "gauge", "matches", _PATTERN, "Partial matches that there are."),
    Metric(
        "ostinato_partial_matches_dropped_total",
        "counter",
        "matches",
        _PATTERN,
        "Partial matches that fell to the cap of a key or a pattern.",
    ),
    Metric("ostinato_state_bytes", "gauge", "bytes", _JOB, "State of all patterns and functions."),
    Metric(
        "ostinato_busy_seconds_total", "counter", "seconds", _PARTITION, "Time in which there was work and it was done."
    ),
    Metric("ostinato_idle_seconds_total", "counter", "seconds", _PARTITION, "Time in which there was nothing to do."),
    Metric(
        "ostinato_backpressured_seconds_total",
        "counter",
        "seconds",
        _PARTITION,
        "Time in which what comes after it did not let it go on.",
    ),
    Metric(
        "ostinato_watermark_lag_seconds",
        "gauge",
        "seconds",
        _SPLIT,
        "How far the watermark of a split is behind the clock.",
    ),
    Metric(
        "ostinato_consumer_lag", "gauge", "records", _SPLIT, "Records of a Kafka partition that are still to be read."
    ),
    Metric(
        "ostinato_match_latency_seconds",
        "histogram",
        "seconds",
        _JOB,
        "End to end: from an event that is durable to the match that it completed.",
    ),
    Metric("ostinato_checkpoints_total", "counter", "checkpoints", _JOB, "Checkpoints that were completed."),
    Metric("ostinato_checkpoint_failures_total", "counter", "checkpoints", _JOB, "Checkpoints that failed."),
    Metric("ostinato_checkpoint_duration_seconds", "gauge", "seconds", _JOB, "How long the last one took."),
    Metric("ostinato_checkpoint_size_bytes", "gauge", "bytes", _JOB, "How large the last one is."),
    Metric("ostinato_checkpoint_age_seconds", "gauge", "seconds", _JOB, "How long ago the last one was completed."),
    Metric(
        "ostinato_transaction_commits_total",
        "counter",
        "transactions",
        _PARTITION,
        "Transactions with Kafka that were committed.",
    ),
    Metric(
        "ostinato_transaction_aborts_total",
        "counter",
        "transactions",
        _PARTITION,
        "Transactions with Kafka that were not.",
    ),
    Metric(
        "ostinato_transaction_commit_seconds_total",
        "counter",
        "seconds",
        _PARTITION,
        "Time that commits took, all together.",
    ),
    Metric("ostinato_rebalances_total", "counter", "rebalances", _JOB, "How often the consumer group was dealt anew."),
    Metric("ostinato_restarts_total", "counter", "restarts", _JOB, "How often a job was begun again after a failure."),
    Metric("ostinato_recovery_seconds", "gauge", "seconds", _JOB, "How long the last recovery took."),
    Metric("ostinato_job_uptime_seconds", "gauge", "seconds", _JOB, "How long a job has run since it last began."),
    Metric("ostinato_journal_position_bytes", "gauge", "bytes", (), "Where the journal is durable up to."),
    Metric("ostinato_journal_lag_bytes", "gauge", "bytes", (), "How much of the journal the patterns have not seen."),
    Metric("ostinato_journal_bytes", "gauge", "bytes", (), "What the journal takes of the disk."),
    Metric("ostinato_journal_appends_total", "counter", "requests", (), "Appends that were acknowledged."),
    Metric(
        "ostinato_journal_duplicates_total",
        "counter",
        "requests",
        (),
        "Appends that had come before with the same idempotency key.",
    ),
    Metric(
        "ostinato_journal_syncs_total", "counter", "syncs", (), "Groups of appends that were made durable together."
    ),
    Metric("ostinato_journal_sync_seconds_total", "counter", "seconds", (), "Time that took."),
    Metric(
        "ostinato_journal_refused_total",
        "counter",
        "requests",
        ("code",),
        "Appends that were refused; code `busy`: too much is under way, `full`: the disk is.",
    ),
    Metric("ostinato_match_seq", "gauge", "matches", (), "The number of the last row of the match log."),
    Metric("ostinato_match_seq_first", "gauge", "matches", (), "The number of the first row that is retained."),
    Metric("ostinato_followers", "gauge", "clients", (), "Clients that follow matches by SSE or WebSocket."),
    Metric("ostinato_followers_behind", "gauge", "clients", (), "Those of them that are not up to date."),
    Metric("ostinato_followers_sent_total", "counter", "matches", (), "Matches that were handed to them."),
    Metric(
        "ostinato_followers_lost_total",
        "counter",
        "matches",
        (),
        "Matches that retention deleted before they read them.",
    ),
    Metric("ostinato_output_delivered_total", "counter", "matches", _OUTPUT, "Matches that an output has delivered."),
    Metric("ostinato_output_lag", "gauge", "rows", _OUTPUT, "Rows of the match log that an output has not dealt with."),
    Metric("ostinato_output_retries_total", "counter", "attempts", _OUTPUT, "Attempts of an output that failed."),
    Metric("ostinato_output_dead_letters_total", "counter", "matches", _OUTPUT, "Matches that the target refused."),
    Metric(
        "ostinato_output_lost_total",
        "counter",
        "matches",
        _OUTPUT,
        "Matches that retention deleted before they went out.",
    ),
    Metric(
        "ostinato_output_up", "gauge", "", _OUTPUT, "1: it delivers; 0: it is paused, has failed, or is trying again."
    ),
    Metric("ostinato_http_requests_total", "counter", "requests", ("route", "code"), "Requests that were answered."),
    Metric("ostinato_http_request_seconds", "histogram", "seconds", ("route",), "How long answers took."),
    Metric("ostinato_loop_lag_seconds", "gauge", "seconds", (), "How late the event loop is with what is due."),
    Metric("ostinato_uptime_seconds", "gauge", "seconds", (), "How long the server has run."),
    Metric("ostinato_build_info", "gauge", "", ("release",), "1, for the release that runs."),
)
"""The order is that of the table in the docs."""

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}


class Buckets(msgspec.Struct, frozen=True):
    """A histogram: how many were up to each bound, in seconds, and not up to the one before; one count more is of what
    was larger than all bounds. `sum`: of all that was observed."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @staticmethod
    def merged(parts: Iterable[Buckets]) -> Buckets | None:
        """One histogram of those of several workers; None of none. Raises ValueError where their bounds differ."""
        merged: Buckets | None = None
        for part in parts:
            if merged is None:
                merged = part
            elif merged.bounds != part.bounds:
                raise ValueError(f"histograms with bounds {merged.bounds} and {part.bounds} are not of the same thing")
            else:
                counts = tuple(a + b for a, b in zip(merged.counts, part.counts, strict=True))
                merged = Buckets(merged.bounds, counts, merged.sum + part.sum)
        return merged


class PatternNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of one version of a pattern; `partial_matches` is now, the rest since the job first began."""

    pattern: str
    version: int = 0
    matches: int = 0
    timeouts: int = 0
    partial_matches: int = 0
    dropped: int = 0


class StreamNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of one stream, in or out. None: there is no such thing with it."""

    stream: str
    events: int | None = None
    events_out: int | None = None
    late: int | None = None
    dead_letters: int | None = None
    buffered: int | None = None


class SplitNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of one part of a stream's input with a watermark of its own; `partition` is empty where there is only one."""

    stream: str
    partition: str = ""
    watermark_lag_seconds: float | None = None
    consumer_lag: int | None = None


class PartitionNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of what works on one partition of a job, or on all of it: `partition` is empty then."""

    partition: str = ""
    busy_seconds: float | None = None
    idle_seconds: float | None = None
    backpressured_seconds: float | None = None
    commits: int | None = None
    aborts: int | None = None
    commit_seconds: float | None = None


class CheckpointNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """`at_ms`: when the last one was completed, epoch ms; None: there is none yet."""

    completed: int = 0
    failed: int = 0
    seconds: float | None = None
    bytes: int | None = None
    at_ms: int | None = None


class JobNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of a job; the patterns of the server are job `live`."""

    job: str = LIVE
    patterns: tuple[PatternNumbers, ...] = ()
    streams: tuple[StreamNumbers, ...] = ()
    splits: tuple[SplitNumbers, ...] = ()
    partitions: tuple[PartitionNumbers, ...] = ()
    checkpoints: CheckpointNumbers | None = None
    latency: Buckets | None = None
    state_bytes: int | None = None
    rebalances: int | None = None
    restarts: int | None = None
    recovery_seconds: float | None = None
    uptime_seconds: float | None = None


class JournalNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """`position`: durable up to there; `seen`: dealt with by the live worker up to there."""

    position: int
    seen: int
    bytes: int
    appends: int = 0
    duplicates: int = 0
    syncs: int = 0
    sync_seconds: float = 0.0
    refused_busy: int = 0
    refused_full: int = 0


class MatchNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of the match log, and those who follow it."""

    first_seq: int
    last_seq: int
    followers: int = 0
    behind: int = 0
    sent: int = 0
    lost: int = 0


class OutputNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of an output; see `delivery.status.OutputStatus`."""

    output: str
    is_up: bool
    lag: int
    delivered: int = 0
    retries: int = 0
    dead_letters: int = 0
    lost: int = 0


class RouteNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of a route of the API, which is named by its template: ``GET /v1/patterns/{name}``."""

    route: str
    codes: Mapping[int, int] = {}
    seconds: Buckets | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What everything has counted by now. `now_ms`: the clock, epoch ms."""

    now_ms: int
    uptime_seconds: float
    release: str
    jobs: tuple[JobNumbers, ...] = ()
    journal: JournalNumbers | None = None
    matches: MatchNumbers | None = None
    outputs: tuple[OutputNumbers, ...] = ()
    routes: tuple[RouteNumbers, ...] = ()
    loop_lag_seconds: float | None = None


Value: TypeAlias = float | int | Buckets | None
Sample: TypeAlias = tuple[str, tuple[str, ...], Value]
"""Name, values of the labels, and the value; None: there is nothing to say."""


class Metrics:
    """Renders snapshots in Prometheus' text form, and with them what the process uses."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.registry import Collector

        outer = self

        class FromSnapshot(Collector):
            def collect(self) -> Iterable[Family]:
                return () if outer._snapshot is None else families(outer._snapshot)

            def describe(self) -> Iterable[Family]:
                return ()

        self._snapshot: Snapshot | None = None
        # not the registry of the whole process: a program that is run beside the server may have metrics of its own
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(FromSnapshot())
        ProcessCollector(registry=self._registry)

    def render(self, snapshot: Snapshot) -> tuple[bytes, str]:
        """The text, and its content type. One thread at a time."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        self._snapshot = snapshot
        try:
            return generate_latest(self._registry), CONTENT_TYPE_LATEST
        finally:
            self._snapshot = None


def families(snapshot: Snapshot) -> Iterator[Family]:
    """A snapshot as prometheus-client has it, in the order of `METRICS`; those without a sample are left out."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    found: dict[str, dict[tuple[str, ...], float | int | Buckets]] = {}
    for name, labels, value in _samples(snapshot):
        if value is not None:
            found.setdefault(name, {})[labels] = value
    for metric in METRICS:
        samples = found.pop(metric.name, None)
        if samples is None:
            continue
        names = list(metric.labels)
        if metric.kind == "histogram":
            histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=names)
            for labels, value in samples.items():
                assert isinstance(value, Buckets)
                histogram.add_metric(list(labels), _cumulative(value), value.sum)
            yield histogram
            continue
        plain = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
            metric.name, metric.meaning, labels=names
        )
        for labels, value in samples.items():
            assert not isinstance(value, Buckets)
            plain.add_metric(list(labels), value)
        yield plain
    if found:
        raise ValueError(f"metrics that METRICS does not have: {', '.join(found)}")


def _samples(snapshot: Snapshot) -> Iterator[Sample]:
    for job in snapshot.jobs:
        yield from _job(job, snapshot.now_ms)
    if (journal := snapshot.journal) is not None:
        yield "ostinato_journal_position_bytes", (), journal.position
        yield "ostinato_journal_lag_bytes", (), max(0, journal.position - journal.seen)
        yield "ostinato_journal_bytes", (), journal.bytes
        yield "ostinato_journal_appends_total", (), journal.appends
        yield "ostinato_journal_duplicates_total", (), journal.duplicates
        yield "ostinato_journal_syncs_total", (), journal.syncs
        yield "ostinato_journal_sync_seconds_total", (), journal.sync_seconds
        yield "ostinato_journal_refused_total", ("busy",), journal.refused_busy
        yield "ostinato_journal_refused_total", ("full",), journal.refused_full
    if (matches := snapshot.matches) is not None:
        yield "ostinato_match_seq", (), matches.last_seq
        yield "ostinato_match_seq_first", (), matches.first_seq
        yield "ostinato_followers", (), matches.followers
        yield "ostinato_followers_behind", (), matches.behind
        yield "ostinato_followers_sent_total", (), matches.sent
        yield "ostinato_followers_lost_total", (), matches.lost
    for output in snapshot.outputs:
        label = (output.output,)
        yield "ostinato_output_delivered_total", label, output.delivered
        yield "ostinato_output_lag", label, output.lag
        yield "ostinato_output_retries_total", label, output.retries
        yield "ostinato_output_dead_letters_total", label, output.dead_letters
        yield "ostinato_output_lost_total", label, output.lost
        yield "ostinato_output_up", label, int(output.is_up)
    for route in snapshot.routes:
        for code, count in route.codes.items():
            yield "ostinato_http_requests_total", (route.route, str(code)), count
        yield "ostinato_http_request_seconds", (route.route,), route.seconds
    yield "ostinato_loop_lag_seconds", (), snapshot.loop_lag_seconds
    yield "ostinato_uptime_seconds", (), snapshot.uptime_seconds
    yield "ostinato_build_info", (snapshot.release,), 1


def _job(job: JobNumbers, now_ms: int) -> Iterator[Sample]:
    own = (job.job,)
    for stream in job.streams:
        label = (job.job, stream.stream)
        yield "ostinato_events_total", label, stream.events
        yield "ostinato_events_out_total", label, stream.events_out
        yield "ostinato_late_events_total", label, stream.late
        yield "ostinato_dead_letters_total", label, stream.dead_letters
        yield "ostinato_buffered_events", label, stream.buffered
    for pattern in job.patterns:
        version = (job.job, pattern.pattern, str(pattern.version))
        yield "ostinato_matches_total", version, pattern.matches
        yield "ostinato_timeouts_total", version, pattern.timeouts
        yield "ostinato_partial_matches", version, pattern.partial_matches
        yield "ostinato_partial_matches_dropped_total", version, pattern.dropped
    for partition in job.partitions:
        label = (job.job, partition.partition)
        yield "ostinato_busy_seconds_total", label, partition.busy_seconds
        yield "ostinato_idle_seconds_total", label, partition.idle_seconds
        yield "ostinato_backpressured_seconds_total", label, partition.backpressured_seconds
        yield "ostinato_transaction_commits_total", label, partition.commits
        yield "ostinato_transaction_aborts_total", label, partition.aborts
        yield "ostinato_transaction_commit_seconds_total", label, partition.commit_seconds
    for split in job.splits:
        place = (job.job, split.stream, split.partition)
        yield "ostinato_watermark_lag_seconds", place, split.watermark_lag_seconds
        yield "ostinato_consumer_lag", place, split.consumer_lag
    yield "ostinato_match_latency_seconds", own, job.latency
    yield "ostinato_state_bytes", own, job.state_bytes
    if (checkpoints := job.checkpoints) is not None:
        yield "ostinato_checkpoints_total", own, checkpoints.completed
        yield "ostinato_checkpoint_failures_total", own, checkpoints.failed
        yield "ostinato_checkpoint_duration_seconds", own, checkpoints.seconds
        yield "ostinato_checkpoint_size_bytes", own, checkpoints.bytes
        if checkpoints.at_ms is not None:
            yield "ostinato_checkpoint_age_seconds", own, max(0, now_ms - checkpoints.at_ms) / 1000
    yield "ostinato_rebalances_total", own, job.rebalances
    yield "ostinato_restarts_total", own, job.restarts
    yield "ostinato_recovery_seconds", own, job.recovery_seconds
    yield "ostinato_job_uptime_seconds", own, job.uptime_seconds


def _cumulative(buckets: Buckets) -> Sequence[tuple[str, float]]:
    """(bound, how many were up to it), as Prometheus wants it."""
    found: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, buckets.bounds), "+Inf"), buckets.counts, strict=True):
        total += count
        found.append((bound, total))
    return found
