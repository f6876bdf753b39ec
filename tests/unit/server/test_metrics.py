"""Metrics: the module, the table in the docs, and what Prometheus reads are the same; no label is a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ostinato.server import metrics as module
from ostinato.server.metrics import (
    BY_NAME,
    LABELS,
    METRICS,
    Buckets,
    CheckpointNumbers,
    JobNumbers,
    JournalNumbers,
    MatchNumbers,
    Metrics,
    OutputNumbers,
    PartitionNumbers,
    PatternNumbers,
    RouteNumbers,
    Snapshot,
    SplitNumbers,
    StreamNumbers,
)

SOURCES = Path(__file__).parents[3]
LATENCY = Buckets((0.1, 1.0), (3, 2, 1), 6.5)

FULL = Snapshot(
    now_ms=10_000,
    uptime_seconds=9.5,
    release="1.2.3",
    jobs=(
        JobNumbers(
            patterns=(
                PatternNumbers(pattern='fr"aud', version=2, matches=7, timeouts=3, partial_matches=4, dropped=1),
                PatternNumbers(pattern="login", version=1),
            ),
            streams=(StreamNumbers(stream="tx", events=100, events_out=0, late=5, dead_letters=2, buffered=9),),
            splits=(SplitNumbers(stream="tx", partition="0", watermark_lag_seconds=1.5, consumer_lag=12),),
            partitions=(
                PartitionNumbers(
                    partition="0", busy_seconds=1, idle_seconds=2, backpressured_seconds=3, commits=4, aborts=5,
                    commit_seconds=0.5,
                ),
            ),
            checkpoints=CheckpointNumbers(completed=3, failed=1, seconds=0.25, bytes=4096, at_ms=8_000),
            latency=LATENCY,
            state_bytes=1 << 20,
            rebalances=2,
            restarts=1,
            recovery_seconds=0.75,
            uptime_seconds=8,
        ),
        JobNumbers(job="batch", patterns=(PatternNumbers(pattern="login", version=1, matches=1),)),
    ),
    journal=JournalNumbers(position=500, seen=400, bytes=600, refused_full=1),
    matches=MatchNumbers(first_seq=1, last_seq=20, followers=3, behind=1, sent=60, lost=2),
    outputs=(OutputNumbers(output="hook", is_up=True, lag=4, delivered=16, retries=2, dead_letters=1),),
    routes=(RouteNumbers(route="GET /v1/patterns/{name}", codes={200: 5, 404: 1}, seconds=LATENCY),),
    loop_lag_seconds=0.001,
)  # fmt: skip


def rendered(snapshot: Snapshot) -> Mapping[str, Any]:
    text, content_type = Metrics().render(snapshot)
    assert content_type.startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def values(snapshot: Snapshot) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in rendered(snapshot).values()
        for sample in family.samples
    }


def test_the_table_in_the_docs_is_the_module() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (\w*) \| ([\w, ]*) \| (.*) \|$", (SOURCES / "docs/metrics.md").read_text(), re.M
    )
    in_docs = [(name, kind, unit, labels, meaning) for name, kind, unit, labels, meaning in rows]
    assert in_docs == [(m.name, m.kind, m.unit, ", ".join(m.labels), m.meaning) for m in METRICS], (
        "write the row of docs/metrics.md as server/metrics.py has it"
    )


def test_names_say_what_they_are() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"ostinato_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        if metric.unit in ("seconds", "bytes"):
            assert metric.unit in metric.name.split("_"), metric.name
        assert metric.meaning.endswith(".")


def test_no_label_can_be_a_key() -> None:
    """Labels are of a short list; the structures that numbers come in have texts of these names and no others."""
    assert set(LABELS) == {
        "job", "pattern", "version", "partition", "stream", "output", "route", "code", "release"
    }  # fmt: skip
    for metric in METRICS:
        assert set(metric.labels) <= set(LABELS), metric.name
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            for name, hint in get_type_hints(kind).items():
                if hint is str or str in get_args(hint):
                    assert name in LABELS, f"{kind.__name__}.{name}"


def test_every_metric_can_be_rendered() -> None:
    families = rendered(FULL)
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.meaning)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), metric.name
    assert {name for name in families if not name.startswith("process_")} == {
        metric.name.removesuffix("_total") for metric in METRICS
    }
    assert "process_resident_memory_bytes" in families


def test_values() -> None:
    found = values(FULL)
    fraud = (("job", "live"), ("pattern", 'fr"aud'), ("version", "2"))
    assert found["ostinato_matches_total", fraud] == 7
    assert found["ostinato_matches_total", (("job", "batch"), ("pattern", "login"), ("version", "1"))] == 1
    assert found["ostinato_checkpoint_age_seconds", (("job", "live"),)] == 2
    assert found["ostinato_journal_lag_bytes", ()] == 100
    assert found["ostinato_journal_refused_total", (("code", "full"),)] == 1
    assert found["ostinato_http_requests_total", (("code", "404"), ("route", "GET /v1/patterns/{name}"))] == 1
    assert found["ostinato_output_up", (("output", "hook"),)] == 1
    assert found["ostinato_build_info", (("release", "1.2.3"),)] == 1
    assert found["ostinato_uptime_seconds", ()] == 9.5


def test_histograms_are_cumulative() -> None:
    found = values(FULL)
    buckets = [
        (dict(labels)["le"], value)
        for (name, labels), value in found.items()
        if name == "ostinato_match_latency_seconds_bucket"
    ]
    assert buckets == [("0.1", 3), ("1.0", 5), ("+Inf", 6)]
    assert found["ostinato_match_latency_seconds_count", (("job", "live"),)] == 6
    assert found["ostinato_match_latency_seconds_sum", (("job", "live"),)] == 6.5


def test_histograms_of_workers_are_added_up() -> None:
    assert Buckets.merged([LATENCY, LATENCY, LATENCY]) == Buckets((0.1, 1.0), (9, 6, 3), 19.5)
    assert Buckets.merged([]) is None
    with pytest.raises(ValueError, match="not of the same thing"):
        Buckets.merged([LATENCY, Buckets((0.1, 2.0), (0, 0, 0), 0)])


def test_what_there_is_not_is_left_out() -> None:
    empty = Snapshot(now_ms=1, uptime_seconds=1, release="1")
    assert {name for name in rendered(empty) if not name.startswith("process_")} == {
        "ostinato_uptime_seconds",
        "ostinato_build_info",
    }


def test_a_metric_that_nobody_has_described_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "METRICS", METRICS[:-1])
    with pytest.raises(ValueError, match="ostinato_build_info"):
        Metrics().render(FULL)


def test_scraping_1000_patterns_takes_little_time() -> None:
    import time

    patterns = tuple(PatternNumbers(pattern=f"p{n}", version=1, matches=n) for n in range(1_000))
    snapshot = msgspec.structs.replace(FULL, jobs=(JobNumbers(patterns=patterns),))
    metrics = Metrics()
    began = time.perf_counter()
    metrics.render(snapshot)
    assert time.perf_counter() - began < 1
