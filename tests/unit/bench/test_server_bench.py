"""The benchmark of the server measures: its client, and matches on their way through a whole server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[3] / "bench"

CODE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])
import arriving, ingestion, measure, served, server, wire

single = ingestion.WORKLOADS[-1]
with served.bare(folder, "store") as bare:
    turn = asyncio.run(ingestion._turn(bare, single, ingestion.batches(1, 3), 0.1))
    assert turn.events_per_s == turn.requests_per_s > 0 and turn.p50_ms <= turn.p99_ms
    bodies = [bare.target.request("POST", "/v1/streams/logins/events", b"a\\nb\\n", "text/plain")] * 5
    load = asyncio.run(wire.put_load(bare.target, bodies, 2, expected=b'"accepted":2'))
    assert len(load.delays) == 5
    try:
        asyncio.run(wire.put_load(bare.target, bodies, 2, expected=b'"accepted":3'))
    except measure.BenchError as error:
        assert "is not in the answer" in str(error)
    else:
        raise AssertionError("a wrong answer was not seen")
(row,) = asyncio.run(arriving.arriving(folder, quick=True, rates=(500,), seconds=0.5))
assert row.delays.count >= 5 and row.stored.p50 <= row.delays.p50
print(server.arriving_table([row]))
"""


def test_a_short_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(BENCH), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    head, line, row = done.stdout.splitlines()
    assert head.count("|") == line.count("|") == row.count("|")
