"""The generated streams are the same bytes for the same arguments, for ever."""

from __future__ import annotations

import hashlib
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench"


streams = runpy.run_path(str(BENCH / "streams.py"))


@pytest.mark.parametrize(
    ("name", "events", "keys", "digest"),
    [
        ("login", 1000, None, "8706bdcd30bcf4554d735fd99f808faa28173f0647d5d0229f62b5740dfc7492"),
        ("login", 500, 7, "463e4eebce5a6bbfb1a88049f0c9d5d3d10c000647688c4bd4f19b53736a4ba8"),
        ("txn", 1000, None, "a18f697ad7b579b43e09e172ca62c8440322a925ef11b51206fac6d885c48fa2"),
        ("txn", 500, 7, "274298793da9beaa6a5f989ad9267031bed72813e2861f357be5feaafe9e460e"),
        ("tick", 1000, None, "a01c5b441d0d3c62d00c497f374e51c20788a70017fad064610fb96e7734ff56"),
        ("tick", 500, 7, "8b230e39da95953cf78ba92ce08b4d237bc1c81452156f9b19a0d44d975c0ac9"),
    ],
)
def test_bytes(name: str, events: int, keys: int | None, digest: str) -> None:
    text = "".join(line + "\n" for line in streams["STREAMS"][name](events, keys))
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_command_writes_the_same() -> None:
    command = [sys.executable, str(BENCH / "streams.py"), "txn", "500", "7"]
    written = subprocess.run(command, capture_output=True, check=True).stdout
    assert hashlib.sha256(written).hexdigest() == ("274298793da9beaa6a5f989ad9267031bed72813e2861f357be5feaafe9e460e")


def test_file_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "made" / "tick.jsonl"
    streams["write_file"]("tick", 12_345, path)
    assert path.read_text().splitlines() == list(streams["tick"](12_345))
    assert [each.name for each in path.parent.iterdir()] == ["tick.jsonl"]


def test_arrivals_are_late_by_less_than_the_jitter() -> None:
    latest = 0
    for line in streams["login"](5_000):
        ts = json.loads(line)["ts"]
        assert ts > latest - streams["JITTER_MS"]
        latest = max(latest, ts)


def test_p6_file_is_what_its_script_writes() -> None:
    assert (BENCH / "p6_many.cep").read_text() == runpy.run_path(str(BENCH / "make_p6.py"))["p6_many"]()
