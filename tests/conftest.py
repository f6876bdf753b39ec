"""Services for tests. With this file in the package `tests`, pytest makes ``tests.support`` importable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.kafka_clients import Kafka
from tests.kafka_install import installed
from tests.kafka_proxy import KafkaProxy
from tests.kafka_services import KafkaBroker, KafkaBrokers, shared_broker
from tests.services import Proxy, RedisServer, RedisServers, docker_answers, redis_server

WARMING = """
stream events (k string key, ts timestamp(ms) time, v int, w string) from file 'events.jsonl'
pattern rise on events match a+ -> b define a as v > 0, b as w = last(a.w) and v = 0 within 1 min
  emit k, first(a.w) as w, count(a) as n into rises
pattern counted on events match a -> b define a as v > 0, b as v = 0 within 1 min count matches into counts
"""
"""Takes in the kernels that take longest to compile."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # what a shell runs in the background ignores Ctrl-C, and so would all that tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
        records = "from ostinato.cep.connectors.kafka.records import warm; warm()"
        subprocess.run([sys.executable, "-c", records], capture_output=True, check=False, timeout=600)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch what a Kafka runs with before the tests that want one, whose time is limited, begin."""
    wanted = any("shared_kafka" in names or "kafka_brokers" in names for names in map(_fixtures, session.items))
    if wanted and not session.config.option.collectonly and not docker_answers():
        # the tests themselves fail with what is missing
        with suppress(RuntimeError):
            installed()


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


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


@pytest.fixture(scope="session")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One Kafka for all tests of all processes of a run."""
    folder = tmp_path_factory.getbasetemp()
    with shared_broker(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) as broker:
        yield broker


@pytest.fixture
def kafka(shared_kafka: Kafka) -> Kafka:
    """The same; a test uses topics and groups with names of its own (`Kafka.unique`)."""
    return shared_kafka


@pytest.fixture
def kafka_brokers() -> Iterator[KafkaBrokers]:
    """Starts brokers for one test, which may configure, kill and restart them."""
    with ExitStack() as stack:
        yield KafkaBrokers(stack)


@pytest.fixture
def proxied_kafka(kafka_brokers: KafkaBrokers) -> Iterator[tuple[KafkaBroker, KafkaProxy]]:
    """A broker, for feeding and reading, and the proxy by which all others reach it (`KafkaProxy.servers`)."""
    with closing(KafkaProxy()) as proxy:
        broker = kafka_brokers(advertised=proxy.port)
        proxy.target = broker.external_port
        yield broker, proxy
