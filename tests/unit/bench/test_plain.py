"""The hand-written loops count what other engines counted on the same streams."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    streams = runpy.run_path(str(BENCH / "streams.py"))
    for name in streams["STREAMS"]:
        streams["write_file"](name, 20_000, folder / f"{name}.jsonl")
    return folder


@pytest.mark.parametrize(
    ("workload", "stream", "matches"),
    [("p1", "login", 205), ("p2", "txn", 13), ("p3", "tick", 211), ("p4", "tick", 16384), ("p6", "login", 4700)],
)
def test_counts(folder: Path, workload: str, stream: str, matches: int) -> None:
    command = [sys.executable, str(BENCH / "plain.py"), workload, str(folder / f"{stream}.jsonl")]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert answer == {"events": 20_000, "matches": matches}
