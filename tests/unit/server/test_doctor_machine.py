"""The doctor and this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ostinato.server.doctor.findings import Finding, Severity, run
from ostinato.server.doctor.job import Job
from ostinato.server.doctor.machine import CHECKS, MachineFacts, gather

HEALTHY = MachineFacts(Job(), 8, 3, True, frozenset(), 1024, 1 << 20, Path("/c"), "", 1 << 40)


def wrong(facts: MachineFacts) -> list[Finding]:
    return [each for each in run(CHECKS, facts) if each.severity > Severity.OK]


def test_a_healthy_one_is_left_in_peace_and_every_check_says_so() -> None:
    assert wrong(HEALTHY) == []
    assert {each.check for each in run(CHECKS, HEALTHY)} == {check.name for check in CHECKS}


@pytest.mark.parametrize(
    ("check", "severity", "facts", "words"),
    [
        ("machine.packages", Severity.ERROR, replace(HEALTHY, missing=frozenset({"cramjam"})), "ostinato[kafka]"),
        ("machine.files", Severity.WARNING, replace(HEALTHY, partitions=200), "ulimit -n 2300"),
        ("machine.files", Severity.WARNING, replace(HEALTHY, partitions=200, files_most=1024), "as root"),
        ("machine.cache", Severity.WARNING, replace(HEALTHY, cache_trouble="read-only"), "OSTINATO_CACHE_DIR"),
        ("machine.cache", Severity.WARNING, replace(HEALTHY, cache_free=1 << 20), "1.0 MiB free"),
    ],
)
def test_what_is_wrong_is_said(check: str, severity: Severity, facts: MachineFacts, words: str) -> None:
    (found,) = wrong(facts)
    assert (found.check, found.severity) == (check, severity)
    assert words in found.line


def test_packages_do_not_matter_without_kafka() -> None:
    assert wrong(replace(HEALTHY, kafka=False, missing=frozenset({"aiokafka"}))) == []


def test_this_machine_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTINATO_CACHE_DIR", str(tmp_path / "cache"))
    facts = gather(Job(), kafka=True)
    assert facts.cache == tmp_path / "cache"
    assert not facts.cache_trouble
    assert facts.cache_free
    assert facts.files > 0
    assert facts.missing == frozenset()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("OSTINATO_CACHE_DIR", "/proc/self")
    assert [each.check for each in wrong(gather(Job()))] == ["machine.cache"]
