"""The doctor at a real Redis: what is set wrongly there is found, and nothing is left in it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from ostinato.server.doctor.findings import Finding, Severity, run
from ostinato.server.doctor.job import Job
from ostinato.server.doctor.redis_checks import CHECKS, REACHABLE
from ostinato.server.doctor.redis_facts import RedisFacts, gather
from ostinato.state.stores import open_store
from tests.services import DURABLE, Proxy, RedisServer, RedisServers, free_port

JOB = Job("fraud", "fraud.cep")


def found_in(facts: RedisFacts, check: str = "") -> list[Finding]:
    found = run([REACHABLE] if facts.unreachable else CHECKS, facts)
    return [each for each in found if each.severity > Severity.OK and each.check.startswith(check)]


def said(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(each.check, each.severity.word) for each in findings}


def test_one_that_a_store_would_take_is_left_in_peace_and_nothing_is_left_in_it(redis: RedisServer) -> None:
    facts = gather(JOB, redis.address)
    # it may be too old for WAITAOF, and it stands alone
    assert said(found_in(facts)) <= {("redis.version", "note"), ("redis.replicas", "note")}
    assert not facts.doubt
    assert len(facts.write_ms) == 10
    assert 0 < facts.median_ms < 5_000
    assert abs(facts.clock_ms) < 2_000
    assert facts.forbidden == ()
    assert redis.ask("DBSIZE") == 0


def test_the_checkpoints_of_a_job_are_not_touched(redis: RedisServer) -> None:
    store = open_store(redis.address, job="fraud")
    with closing(store):
        store.acquire("a test")
        before = sorted(redis.ask("KEYS", "*"))
        assert not gather(JOB, redis.address).unreachable
        store.put("blob-1", [b"still its own"])
        assert store.get("blob-1") == b"still its own"
    assert before


def test_settings_that_lose_checkpoints_are_found(redis_servers: RedisServers) -> None:
    config = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "no-appendfsync-on-rewrite": "yes",
        "maxmemory-policy": "allkeys-lru",
        "maxmemory": "2mb",
        "timeout": "5",
        "maxclients": "12",
        "proto-max-bulk-len": "1mb",
        "client-output-buffer-limit": "normal 1mb 1mb 1",
    }
    server = redis_servers(config, local=True)
    facts = gather(JOB, server.address)
    found = found_in(facts)
    assert said(found) >= {
        ("redis.eviction", "error"),
        ("redis.clients", "note"),
        ("redis.clients", "warning"),
        ("redis.clients", "error"),
    }
    if not facts.waitaof:
        assert ("redis.durable", "error") in said(found)
    assert facts.doubt
    # what the doctor says is to be done is done
    for name, value in (
        ("appendfsync", "always"),
        ("no-appendfsync-on-rewrite", "no"),
        ("maxmemory-policy", "noeviction"),
        ("timeout", "0"),
        ("maxclients", "10000"),
        ("proto-max-bulk-len", "512mb"),
        ("client-output-buffer-limit", "normal 0 0 0"),
    ):
        server.ask("CONFIG", "SET", name, value)
    healed = gather(JOB, server.address)
    assert not healed.doubt
    assert said(found_in(healed)) <= {("redis.version", "note"), ("redis.replicas", "note")}


def test_one_without_a_file_is_found(redis_servers: RedisServers) -> None:
    server = redis_servers({"appendonly": "no", "save": ""})
    assert said(found_in(gather(JOB, server.address), "redis.durable")) == {("redis.durable", "error")}


def test_a_full_one_is_found(redis_servers: RedisServers) -> None:
    server = redis_servers(DURABLE)
    server.ask("SET", "filler", "x" * 1_900_000)
    used = server.ask("INFO", "memory")["used_memory"]
    server.ask("CONFIG", "SET", "maxmemory", 4 * used)
    assert found_in(gather(JOB, server.address), "redis.memory") == []
    server.ask("CONFIG", "SET", "maxmemory", used * 5 // 4)
    assert said(found_in(gather(JOB, server.address), "redis.memory")) == {("redis.memory", "warning")}
    server.ask("CONFIG", "SET", "maxmemory", used // 2)
    facts = gather(JOB, server.address)
    assert "memory is used up" in facts.write_error
    assert said(found_in(facts)) >= {("redis.latency", "error"), ("redis.memory", "error")}


def test_a_replica_and_its_primary_are_told_apart(redis_servers: RedisServers) -> None:
    primary, replica = (
        redis_servers({**DURABLE, "repl-diskless-sync-delay": "0"}, local=True),
        redis_servers(local=True),
    )
    replica.ask("REPLICAOF", "127.0.0.1", primary.port)
    until = time.monotonic() + 20
    while primary.ask("INFO", "replication")["connected_slaves"] != 1 and time.monotonic() < until:
        time.sleep(0.05)
    (found,) = found_in(gather(JOB, replica.address), "redis.role")
    assert f"redis://127.0.0.1:{primary.port}" in found.change
    assert said(found_in(gather(JOB, primary.address), "redis.replicas")) == {("redis.replicas", "warning")}
    primary.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    assert found_in(gather(JOB, primary.address), "redis.replicas") == []
    # without a file of its own it would empty its replica when it is restarted
    primary.ask("CONFIG", "SET", "appendonly", "no")
    assert ("redis.replicas", "error") in said(found_in(gather(JOB, primary.address)))


def test_what_a_user_may_not_do_is_found_and_what_is_advised_helps(redis_servers: RedisServers) -> None:
    server = redis_servers()
    server.ask("ACL", "SETUSER", "weak", "on", ">secret", "~other:*", "+@all", "-config", "-eval")
    address = server.address.replace("redis://", "redis://weak:secret@")
    facts = gather(JOB, address)
    assert "weak:***@" in facts.address
    found = found_in(facts)
    assert ("redis.allowed", "error") in said(found)
    assert ("redis.allowed", "note") in said(found)
    assert "secret" not in "".join(each.line for each in found)
    (advice,) = (each.change for each in found if each.check == "redis.allowed" and each.severity is Severity.ERROR)
    rules = advice.split()[3:]
    server.ask("ACL", "SETUSER", "weak", "reset", "on", ">secret", *rules)
    healed = gather(JOB, address)
    assert healed.forbidden == ()
    assert found_in(healed, "redis.allowed") == []
    assert not healed.doubt
    # and the store itself can do with that
    with closing(open_store(address, job="fraud")) as store:
        store.acquire("a test")
        store.put("blob-1", [b"x"])
        assert store.get("blob-1") == b"x"


def test_keys_of_other_jobs_are_not_enough(redis_servers: RedisServers) -> None:
    server = redis_servers()
    server.ask("ACL", "SETUSER", "weak", "on", ">secret", "~ostinato:{other*", "+@all")
    facts = gather(JOB, server.address.replace("redis://", "redis://weak:secret@"))
    assert ("redis.allowed", "error") in said(found_in(facts))


def test_a_wrong_password_is_told_and_not_shown(redis_servers: RedisServers) -> None:
    server = redis_servers(password="right")
    (found,) = found_in(gather(JOB, server.address.replace("right", "wrong")))
    assert found.check == "redis.reachable"
    assert "password" in found.what
    (found,) = found_in(gather(JOB, f"redis://127.0.0.1:{server.port}/0"))
    assert "password" in found.what
    assert not gather(JOB, server.address).unreachable


def test_one_that_can_wait_for_its_disk_is_asked_to(redis_servers: RedisServers) -> None:
    server = redis_servers({"appendonly": "yes", "appendfsync": "everysec"})
    with closing(Proxy(server.port)) as proxy:
        proxy.waitaof = 1
        facts = gather(JOB, proxy.address)
        assert facts.waitaof
        assert len(facts.write_ms) == 10
        assert found_in(facts, "redis.durable") == []
        # it says that its disk has nothing
        proxy.waitaof = 0
        facts = gather(JOB, proxy.address)
        assert "WAITAOF" in facts.write_error
        assert ("redis.latency", "error") in said(found_in(facts))


def test_a_slow_one_is_found(redis_proxy: Proxy) -> None:
    redis_proxy.delay_seconds = 0.05
    facts = gather(Job("fraud", interval_ms=100), redis_proxy.address)
    assert facts.median_ms >= 50
    assert said(found_in(facts, "redis.latency")) == {("redis.latency", "warning")}


def test_a_clock_that_goes_wrong_is_not_made_up_by_a_slow_way(redis_proxy: Proxy) -> None:
    redis_proxy.delay_seconds = 0.4
    assert found_in(gather(JOB, redis_proxy.address), "redis.clock") == []


def test_a_socket_of_this_machine_is_reached_and_its_disk_seen(redis_servers: RedisServers, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    server = redis_servers({**DURABLE, "unixsocket": str(path)}, local=True)
    facts = gather(JOB, f"unix://{path}?db=0")
    assert not facts.unreachable
    if facts.version >= (7,):
        assert facts.free_bytes
    assert server.ask("DBSIZE") == 0


def test_nobody_at_home_is_found_at_once() -> None:
    began = time.monotonic()
    (found,) = found_in(gather(JOB, f"redis://:secret@127.0.0.1:{free_port()}/0"))
    assert found.check == "redis.reachable"
    assert "nobody listens" in found.what
    assert "secret" not in found.line
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("paused", [False, True])
def test_one_that_does_not_answer_is_given_up(paused: bool, redis_servers: RedisServers) -> None:
    began = time.monotonic()
    if paused:
        server = redis_servers()
        server.pause()
        try:
            began = time.monotonic()
            (found,) = found_in(gather(JOB, server.address))
        finally:
            server.go_on()
    else:
        with closing(socket.create_server(("127.0.0.1", 0))) as silent:
            (found,) = found_in(gather(JOB, f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
    assert "within 5 s" in found.what
    assert time.monotonic() - began < 8


def test_an_address_that_is_none_is_told() -> None:
    (found,) = found_in(gather(JOB, "redis://host:port/0"))
    assert found.check == "redis.reachable"
