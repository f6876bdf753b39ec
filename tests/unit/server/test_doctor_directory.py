"""The doctor and directories: real ones, and what cannot be had here from facts."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ostinato.server.doctor.directory import CHECKS, DirectoryFacts, gather
from ostinato.server.doctor.findings import Finding, Severity, run
from ostinato.server.doctor.job import Job
from ostinato.state.stores.directory import DirectoryStore

JOB = Job("fraud", "fraud.cep")
HEALTHY = DirectoryFacts(JOB, Path("/chk"), kind="ext4", free_bytes=1 << 40, free_inodes=1 << 20, sync_ms=(1.0, 2.0))


def wrong(facts: DirectoryFacts) -> list[Finding]:
    return [each for each in run(CHECKS, facts) if each.severity > Severity.OK]


def test_a_healthy_one_is_left_in_peace_and_every_check_says_so() -> None:
    assert wrong(HEALTHY) == []
    assert {each.check for each in run(CHECKS, HEALTHY)} == {check.name for check in CHECKS}


E, W, N = Severity.ERROR, Severity.WARNING, Severity.NOTE


@pytest.mark.parametrize(
    ("check", "severity", "facts", "words"),
    [
        ("directory.writable", E, replace(HEALTHY, trouble="permission denied"), "chown"),
        ("directory.kind", W, replace(HEALTHY, kind="nfs4"), "another machine"),
        ("directory.kind", W, replace(HEALTHY, kind="tmpfs"), "in memory"),
        ("directory.kind", W, replace(HEALTHY, kind="overlay"), "volume"),
        ("directory.room", W, replace(HEALTHY, free_bytes=500 << 20), "500 MiB free"),
        ("directory.room", E, replace(HEALTHY, free_bytes=1 << 20), "1.0 MiB free"),
        ("directory.room", W, replace(HEALTHY, free_inodes=5_000), "5000 files"),
        ("directory.speed", W, replace(HEALTHY, job=replace(JOB, interval_ms=100), sync_ms=(20.0,)), "360ms"),
    ],
)
def test_what_is_wrong_is_said(check: str, severity: Severity, facts: DirectoryFacts, words: str) -> None:
    (found,) = wrong(facts)
    assert (found.check, found.severity) == (check, severity)
    assert words in found.line
    assert found.why
    assert found.change


def test_a_directory_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    facts = gather(JOB, tmp_path / "a" / "chk")
    assert not facts.exists
    assert not facts.trouble
    assert facts.kind
    assert len(facts.sync_ms) == 10
    assert facts.free_bytes
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place_is_seen(tmp_path: Path) -> None:
    (tmp_path / "chk").write_text("")
    found = [each for each in wrong(gather(JOB, tmp_path / "chk" / "more")) if each.check == "directory.writable"]
    assert "is no directory" in found[0].what


def test_what_cannot_be_written_to_is_seen() -> None:
    assert gather(JOB, Path("/proc/self")).trouble


def test_a_file_system_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def statvfs(path: object) -> os.statvfs_result:
        answered.wait(10)
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "statvfs", statvfs)
    try:
        (found,) = (each for each in wrong(gather(JOB, tmp_path, 0.1)) if each.check == "directory.writable")
        assert "no answer within 0.1 s" in found.what
    finally:
        answered.set()


def test_who_has_it_is_told(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, "fraud")
    store.acquire("a test")
    try:
        (found,) = (each for each in wrong(gather(JOB, tmp_path)) if each.check == "directory.owner")
        assert found.severity is N
        assert f"process {os.getpid()}" in found.what
        (found,) = (each for each in wrong(gather(replace(JOB, name="x"), tmp_path)) if each.check == "directory.owner")
        assert found.severity is E
        assert "job fraud" in found.what
    finally:
        store.close()
    # nobody has it any more
    assert [each for each in wrong(gather(JOB, tmp_path)) if each.check == "directory.owner"] == []
    # what had it last is still told
    assert [each.what for each in run(CHECKS, gather(JOB, tmp_path)) if each.check == "directory.owner"] == [
        "belongs to job fraud, which does not run here"
    ]


def test_the_stores_of_partitions_are_looked_at(tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "partition-3", "other.3").acquire("a test")
    (found,) = (each for each in wrong(gather(JOB, tmp_path)) if each.check == "directory.owner")
    assert "partition-3" in found.subject
    assert "job fraud.3 refuses" in found.why


def test_a_damaged_record_of_its_owner_is_told(tmp_path: Path) -> None:
    (tmp_path / "OWNER-1").write_text("{")
    (found,) = (each for each in wrong(gather(JOB, tmp_path)) if each.check == "directory.owner")
    assert "cannot be read" in found.what
