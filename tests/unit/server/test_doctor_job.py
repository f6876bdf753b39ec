"""What the doctor takes from a program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.runtime.load import Loaded, load, read_spec
from ostinato.server.doctor.job import COMMIT_MS, INTERVAL_MS, job_of
from ostinato.server.doctor.reach import unreachable_of

PROGRAM = """
stream logins (user string key, ts timestamp(ms) time delay 2 s, status string)
  from kafka 'logins' (bootstrap_servers = 'a:9092')
pattern brute on logins match fail -> ok define fail as status = 'failed', ok as status = 'ok' within 1 h
  emit user, fail.status as status into hits
pattern twice on hits match one -> two define one as status = 'failed', two as status = 'failed' within 30 min
  emit user, one.status as status into alerts
output alerts to kafka 'alerts' (bootstrap_servers = 'a:9092', transaction_timeout_ms = 30000)
"""


def loaded(folder: Path, text: str) -> Loaded:
    (folder / "p.cep").write_text(text)
    return load(read_spec(str(folder / "p.cep")))


def test_spans_of_chained_patterns_add_up(tmp_path: Path) -> None:
    job = job_of(loaded(tmp_path, PROGRAM), "p.cep", "p")
    assert job.span_ms == 90 * 60_000
    assert job.delay_ms == 2_000
    assert job.needed_ms == 90 * 60_000 + 2_000 + 24 * 3_600_000
    assert job.unbounded == ()
    assert [source.kafka.topics for source in job.sources] == [("logins",)]
    assert [target.kafka.transaction_timeout_ms for target in job.targets] == [30_000]


def test_a_job_from_kafka_to_kafka_commits_often(tmp_path: Path) -> None:
    job = job_of(loaded(tmp_path, PROGRAM), "p.cep", "p")
    assert job.partitioned
    assert job.transactional
    assert job.interval_ms == COMMIT_MS
    assert job_of(loaded(tmp_path, PROGRAM), "p.cep", "p", interval_ms=7).interval_ms == 7


def test_a_job_that_writes_files_does_not(tmp_path: Path) -> None:
    text = PROGRAM[: PROGRAM.index("output")] + "output alerts to file 'x.jsonl'"
    job = job_of(loaded(tmp_path, text), "p.cep", "p")
    assert not job.partitioned
    assert job.others == ("alerts",)
    assert job.interval_ms == INTERVAL_MS


def test_what_no_output_names_is_written_elsewhere(tmp_path: Path) -> None:
    job = job_of(loaded(tmp_path, PROGRAM[: PROGRAM.index("output")]), "p.cep", "p")
    assert job.others == ("alerts",)


def test_a_pattern_without_a_bound_is_named(tmp_path: Path) -> None:
    job = job_of(loaded(tmp_path, PROGRAM.replace("within 30 min", "")), "p.cep", "p")
    assert job.unbounded == ("pattern twice",)
    assert job.span_ms == 60 * 60_000


def test_clusters_are_told_apart(tmp_path: Path) -> None:
    job = job_of(
        loaded(tmp_path, PROGRAM.replace("'alerts' (bootstrap_servers = 'a:", "'alerts' (bootstrap_servers = 'b:")),
        "p.cep",
        "p",
    )
    assert [each.servers for each in job.connections] == ["a:9092", "b:9092"]
    assert job.at("b:9092").sources == ()
    assert [each.servers for each in job.moved("c:1").connections] == ["c:1"]


def test_a_wrong_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="output alerts"):
        job_of(loaded(tmp_path, PROGRAM.replace("transaction_timeout_ms", "transaction_time_ms")), "p.cep", "p")


def test_names_that_nobody_knows_and_ports_that_nobody_has_are_told_apart() -> None:
    found = unreachable_of([("127.0.0.1", 1), ("no-such-host.invalid", 9092)])
    assert "nobody listens" in found["127.0.0.1", 1]
    assert re.search("not known|no answer", found["no-such-host.invalid", 9092])
