"""What the parts of the server count becomes metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ostinato.server.delivery.hub import HubCounts
from ostinato.server.delivery.status import OutputStatus
from ostinato.server.journal import Journal, JournalOptions
from ostinato.server.live.latency import Latency
from ostinato.server.measuring import job_numbers, journal_numbers, live_numbers, match_numbers, output_numbers
from ostinato.server.metrics import Metrics, PatternNumbers, Snapshot


def status() -> dict[str, Any]:
    latency = Latency()
    latency.observe(3, 0.004)
    counts = {"matches": 5, "timeouts": 1, "partial_matches": 2, "dropped": 0}
    return {
        "uptime_seconds": 10.0,
        "patterns": {"p": counts, "p@3": counts, "q": counts},
        "streams": {
            "tx": {
                "delay_ms": 500, "rows": 100, "late": 4, "dead_letters": 2, "waiting": 7,
                "lanes": {
                    "kafka:tx/0": {"max_time": 9_000, "idle": False, "rows": 60},
                    "": {"max_time": None, "idle": True, "rows": 0},
                },
            }
        },
        "busy_seconds": {"match": 1.5, "decode": 0.5},
        "idle_seconds": 7.5,
        "recovery_seconds": 0.25,
        "snapshots": 6,
        "latency": latency.buckets(),
        "failed_snapshots": 1,
        "snapshot": {"id": 4, "position": 9, "seconds": 0.5, "bytes": 1_000, "at_ms": 8_000},
        "state_bytes": 4_096,
    }  # fmt: skip


def test_the_live_worker() -> None:
    versions = {"p": ("p", 4), "p@3": ("p", 3), "q": ("p", 4)}
    job = live_numbers(status(), versions, 10_000, restarts=2, lag={("tx", "kafka:tx/0"): 12})
    assert job.patterns == (
        PatternNumbers(pattern="p", version=4, matches=10, timeouts=2, partial_matches=4),
        PatternNumbers(pattern="p", version=3, matches=5, timeouts=1, partial_matches=2),
    )
    (split,) = job.splits
    assert (split.partition, split.watermark_lag_seconds, split.consumer_lag) == ("kafka:tx/0", 1.5, 12)
    assert (job.partitions[0].busy_seconds, job.partitions[0].idle_seconds) == (2.0, 7.5)
    assert (job.restarts, job.recovery_seconds) == (2, 0.25)
    assert job.latency is not None
    assert sum(job.latency.counts) == 3
    before_the_first = live_numbers({**status(), "snapshot": None}, {}, 10_000)
    assert before_the_first.checkpoints is not None
    assert before_the_first.checkpoints.at_ms is None


def test_a_job_of_the_server() -> None:
    answered = {
        "events": 10, "matches": 3, "late": 1, "bad": 2, "partial_matches": 4, "restarts": 1,
        "checkpoints": {"completed": 5, "failed": 1, "last": {"taken_at": 9_000, "seconds": 0.2, "bytes_total": 77}},
        "time": {"busy_seconds": 3.0, "idle_seconds": 1.5, "backpressured_seconds": 0.75},
    }  # fmt: skip
    job = job_numbers("nightly", answered, 2, 60.0, 10_000)
    assert (job.job, job.restarts, job.uptime_seconds) == ("nightly", 3, 60.0)
    assert (job.partitions[0].busy_seconds, job.partitions[0].backpressured_seconds) == (3.0, 0.75)
    assert job.checkpoints is not None
    assert (job.checkpoints.completed, job.checkpoints.bytes, job.checkpoints.at_ms) == (5, 77, 9_000)
    text = Metrics().render(Snapshot(now_ms=10_000, uptime_seconds=1, release="1", jobs=(job,)))[0].decode()
    assert 'ostinato_matches_total{job="nightly",pattern="",version="0"} 3.0' in text
    assert job_numbers("new", {}, 0, None, 10_000).restarts == 0


def test_all_of_it_is_rendered(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", JournalOptions())
    journal.append("tx", b"{}\n", 1).result(20)
    numbers = journal_numbers(journal.status(), 0)
    journal.close()
    snapshot = Snapshot(
        now_ms=10_000,
        uptime_seconds=1,
        release="1",
        jobs=(live_numbers(status(), {}, 10_000),),
        journal=numbers,
        matches=match_numbers(1, 9, HubCounts(followers=2, behind=1, sent=8)),
        outputs=output_numbers({"hook": OutputStatus("retrying", 3, 6, 3, attempts=2)}),
    )
    text = Metrics().render(snapshot)[0].decode()
    for line in (
        'ostinato_events_total{job="live",stream="tx"} 100.0',
        'ostinato_output_up{output="hook"} 0.0',
        "ostinato_journal_appends_total 1.0",
        "ostinato_followers_behind 1.0",
        'ostinato_checkpoint_age_seconds{job="live"} 2.0',
    ):
        assert line in text
