"""Services for tests. With this file in the package `tests`, pytest makes ``tests.support`` importable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.services import Proxy, RedisServer, RedisServers, redis_server

WARMING = """
stream events (k string key, ts timestamp(ms) time, v int, w string) from file 'events.jsonl'
pattern rise on events match a+ -> b define a as v > 0, b as w = last(a.w) and v = 0 within 1 min
  emit k, first(a.w) as w, count(a) as n into rises
pattern counted on events match a -> b define a as v > 0, b as v = 0 within 1 min count matches into counts
"""
"""Takes in the kernels that take longest to compile."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile kernels that are in no cache yet before the tests begin: none of them should have to wait for that, or
    several of them compile the same."""
    if (
        hasattr(session.config, "workerinput")
        or os.environ.get("NUMBA_DISABLE_JIT")
        or session.config.option.collectonly
    ):
        return
    events = [{"k": "xy"[n % 2], "ts": 1000 * n, "v": n % 3, "w": "p"} for n in range(50)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "warm.cep").write_text(WARMING)
        (Path(folder) / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        for options in (["-p", "1", "--checkpoint-dir", "chk"], ["-p", "2"]):
            command = [sys.executable, "-m", "ostinato.server.cli", "run", "warm.cep", *options]
            subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=600)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One Redis for all tests of a process, with what checkpoints want of it."""
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """The same, empty."""
    shared_redis.ask("FLUSHALL")
    return shared_redis


@pytest.fixture
def redis_servers() -> Iterator[RedisServers]:
    """Starts servers for one test, which may configure, kill and restart them."""
    with ExitStack() as stack:
        yield RedisServers(stack)


@pytest.fixture
def redis_proxy(redis: RedisServer) -> Iterator[Proxy]:
    """The Redis behind something that can be slow."""
    with closing(Proxy(redis.port)) as proxy:
        yield proxy
