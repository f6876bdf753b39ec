"""Patterns deployed and deleted again, thousands of times: the memory of server and worker stays flat."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.faults.driver import resident_bytes
from tests.server_driver import Server, servers

CYCLES = int(os.environ.get("OSTINATO_CYCLES", "0"))
"""How many; as many as there is time for where it is not said. All ten thousand take some ten minutes."""
_SECONDS = 30.0
_WARM = 60
_GROWTH_BYTES = 24 << 20
"""Of an interpreter's arenas, by chance."""


@pytest.mark.faults
@pytest.mark.timeout(7_200 if CYCLES else 110)
def test_deploying_and_deleting_takes_no_memory(tmp_path: Path) -> None:
    with servers(tmp_path) as make:
        server: Server = make(checkpoints__interval="1s")
        server.start()
        server.apply(
            "stream logins (user string key, ts timestamp(ms) time delay 1 s, n bigint)\n"
            "pattern every on logins match a emit user, a.n as n\n"
        )
        worker = server.worker
        assert worker is not None

        def cycle(number: int) -> None:
            server.apply(
                f"pattern passing on logins match a -> b{{{1 + number % 3}}} define a as n > {number}, b as n < 7 "
                "within 1 min emit user, a.n as n"
            )
            server.send("logins", [{"user": f"u{number % 50}", "ts": number * 100, "n": number % 10}])
            assert server.client.delete("/v1/patterns/passing").is_success

        done = 0
        while done < _WARM:
            cycle(done)
            done += 1
        before = [resident_bytes(pid) for pid in (server.pid, worker)]
        began = time.monotonic()
        while done < _WARM + CYCLES if CYCLES else time.monotonic() - began < _SECONDS:
            cycle(done)
            done += 1
        took = time.monotonic() - began
        after = [resident_bytes(pid) for pid in (server.pid, worker)]
        assert server.worker == worker
        count = done - _WARM
        print(
            f"{count} cycles, {took / count * 1000:.1f} ms each; server {before[0] >> 20} -> {after[0] >> 20} MB, "
            f"worker {before[1] >> 20} -> {after[1] >> 20} MB"
        )
        for first, last in zip(before, after, strict=True):
            assert last - first < _GROWTH_BYTES
        # it is still the same server: all events have been seen by who was there all the time
        server.send("logins", [{"user": "end", "ts": 10**11, "n": 1}])
        server.send("logins", [{"user": "end", "ts": 10**12, "n": 1}])
        server.caught_up()
        rows = server.matches(pattern="every")
        times = [row["time"] for row in rows]
        assert times == [*(number * 100 for number in range(done)), 10**11]
