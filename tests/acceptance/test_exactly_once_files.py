"""A job that is killed and resumed leaves the files that one leaves which nothing happened to."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from .conftest import START_MS, Folder, attack, lines

PROGRAM = """
stream logins (
  user   string key,
  ts     timestamp(ms) time delay 2 s,
  status string
) from file 'in/*' format json (chunk_bytes = 1000)

pattern suspicious on logins
  match  fail{3,} ok
  define fail as status = 'FAILED', ok as status = 'SUCCESS'
  after match skip past last
  emit   user, count(fail) as failures, first(fail.ts) as since
  into   alerts
"""
FAULTS = {
    "json": ["sink.prepare:7=kill", "sink.prepared:7=kill", "sink.publishing:2=kill", "sink.recovered:2=kill"],
    "csv": ["sink.publish:5=kill", "publish.file:4=kill", "sink.published:9=kill", "sink.recovered:3=kill"],
    "parquet": ["sink.prepared:8=kill", "sink.recovered=kill", "sink.publishing:9=kill", "checkpoint.committed:3=kill"],
}
"""Whatever is not reached in a run lets that run come to its end."""


@pytest.fixture
def input_(folder: Folder) -> None:
    """Three files, one compressed, with bad and late events among the others."""
    (folder.path / "in").mkdir()
    late: dict[str, Any] = {"user": "late", "ts": START_MS - 10**6, "status": "FAILED"}
    for number in range(3):
        events: list[Any] = []
        for second in range(number * 500, number * 500 + 500, 10):
            events += [*attack(f"user{second}", second), b"bad %d\n" % second]
            if second % 50 == 0 and second:
                events.append({**late, "user": f"late{second}"})
        held = lines(events)
        (folder.path / "in" / f"{number}.jsonl").write_bytes(gzip.compress(held) if number == 1 else held)
    folder.write("logins.cep", PROGRAM)


def content(path: Path) -> object:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    return path.read_bytes()


@pytest.mark.usefixtures("input_")
@pytest.mark.parametrize("form", list(FAULTS))
def test_killed_and_resumed(folder: Folder, form: str) -> None:
    ending = "jsonl" if form == "json" else form

    def run(name: str, *options: str) -> int:
        files = ["-o", f"{name}.{ending}", "--late", f"{name}.late.{ending}", "--dead-letters", f"{name}.dead"]
        done = folder.run("run", "logins.cep", *files, *options, "--no-progress")
        assert done.code in (0, -9), done.err
        return done.code

    assert run("whole") == 0
    store = ["--checkpoint-dir", "checkpoints", "--interval", "1ms", "--keep-checkpoints", "always", "--resume-if-any"]
    killed = 0
    for fault in FAULTS[form]:
        folder.environment["OSTINATO_FAULT"] = fault
        killed += run("killed", *store) == -9
    del folder.environment["OSTINATO_FAULT"]
    assert killed >= 2
    assert run("killed", *store) == 0
    for name in (f".{ending}", f".late.{ending}", ".dead"):
        assert content(folder.path / f"killed{name}") == content(folder.path / f"whole{name}"), name
    assert [path.name for path in folder.path.iterdir() if path.name.startswith(".")] == []
