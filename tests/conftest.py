"""Services for tests. With this file in the package `tests`, pytest makes ``tests.support`` importable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.services import Proxy, RedisServer, RedisServers, redis_server


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
