"""Each check of Redis is silent where all is well, and speaks where one thing is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ostinato.server.doctor.examine import every_check
from ostinato.server.doctor.findings import Finding, Severity, run
from ostinato.server.doctor.job import Job
from ostinato.server.doctor.redis_checks import CHECKS, REACHABLE
from ostinato.server.doctor.redis_facts import RedisFacts

EVERY = {check.name for check in every_check() if check.name.startswith("redis.")}
GIB = 1 << 30
INFO = {
    "redis_version": "7.4.1",
    "role": "master",
    "connected_slaves": "1",
    "used_memory": "1000000",
    "total_system_memory": str(16 * GIB),
    "maxmemory": str(GIB),
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "loading": "0",
    "connected_clients": "3",
    "cluster_enabled": "0",
    "maxmemory_policy": "noeviction",
}
SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory": str(GIB),
    "maxmemory-policy": "noeviction",
    "save": "",
    "timeout": "0",
    "min-replicas-to-write": "1",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "proto-max-bulk-len": "536870912",
    "maxclients": "10000",
    "stop-writes-on-bgsave-error": "yes",
}
HEALTHY = RedisFacts(
    Job("fraud"), "redis://r:6379/0", "", INFO, SETTINGS, True, "", (), (1.0, 2.0), "", 3.0, 1.0, 70 * GIB
)


def info(**changes: str) -> RedisFacts:
    return replace(HEALTHY, info=INFO | changes)


def setting(facts: RedisFacts = HEALTHY, **changes: str) -> RedisFacts:
    return replace(facts, settings=SETTINGS | {name.replace("_", "-"): value for name, value in changes.items()})


OLD = replace(HEALTHY, waitaof=False, info=INFO | {"redis_version": "7.0.15"}, settings=SETTINGS)


def found_in(facts: RedisFacts) -> list[Finding]:
    return list(run([REACHABLE, *CHECKS], facts))


def test_a_healthy_redis_is_left_in_peace_and_every_check_says_so() -> None:
    found = found_in(HEALTHY)
    assert [each.line for each in found if each.severity > Severity.OK] == []
    assert {each.check for each in found} == EVERY


E, W, N = Severity.ERROR, Severity.WARNING, Severity.NOTE
CASES: list[tuple[str, Severity, RedisFacts, str]] = [
    ("redis.version", N, setting(OLD, appendfsync="always"), "7.2"),
    ("redis.durable", E, setting(appendonly="no"), "CONFIG SET appendonly yes"),
    ("redis.durable", E, replace(HEALTHY, settings=None, info=INFO | {"aof_enabled": "0"}), "appendonly yes"),
    ("redis.durable", E, setting(OLD, appendfsync="everysec"), "CONFIG SET appendfsync always"),
    ("redis.durable", E, replace(OLD, settings=None), "+config|get"),
    ("redis.durable", W, setting(appendfsync="no"), "CONFIG SET appendfsync everysec"),
    ("redis.durable", W, setting(appendfsync="always", no_appendfsync_on_rewrite="yes"), "on-rewrite no"),
    ("redis.durable", E, setting(OLD, appendfsync="always", no_appendfsync_on_rewrite="yes"), "on-rewrite no"),
    ("redis.eviction", E, setting(maxmemory_policy="allkeys-lru"), "CONFIG SET maxmemory-policy noeviction"),
    ("redis.memory", W, info(used_memory=str(int(0.8 * GIB))), "819 MiB of 1.0 GiB"),
    ("redis.memory", E, info(used_memory=str(int(0.99 * GIB))), "CONFIG SET maxmemory"),
    ("redis.memory", W, info(maxmemory="0", used_memory=str(13 * GIB)), "its machine's memory"),
    ("redis.role", E, info(role="slave", master_host="r1", master_port="6379"), "redis://r1:6379"),
    ("redis.replicas", N, setting(info(connected_slaves="0"), min_replicas_to_write="0"), "no replicas"),
    ("redis.replicas", W, setting(min_replicas_to_write="0"), "CONFIG SET min-replicas-to-write 1"),
    ("redis.replicas", E, info(connected_slaves="0"), "NOREPLICAS"),
    ("redis.replicas", E, setting(appendonly="no"), "its replicas empty themselves"),
    ("redis.persistence", E, info(loading="1"), "wait"),
    ("redis.persistence", E, info(aof_last_write_status="err"), "free some space"),
    ("redis.persistence", W, info(aof_last_bgrewrite_status="err"), "BGREWRITEAOF"),
    ("redis.persistence", W, info(rdb_last_bgsave_status="err"), "BGSAVE"),
    ("redis.persistence", E, setting(info(rdb_last_bgsave_status="err"), save="60 1"), "MISCONF"),
    ("redis.latency", W, replace(HEALTHY, job=Job("fraud", interval_ms=100), write_ms=(40.0,)), "400ms"),
    ("redis.latency", E, replace(HEALTHY, write_error="its memory is used up"), "its memory is used up"),
    ("redis.allowed", E, replace(HEALTHY, forbidden=("EVAL: NOPERM",)), "ACL SETUSER"),
    ("redis.allowed", N, replace(HEALTHY, settings=None), "+config|get"),
    ("redis.clients", N, setting(timeout="10"), "CONFIG SET timeout 0"),
    ("redis.clients", W, setting(client_output_buffer_limit="normal 1048576 0 0 pubsub 0 0 0"), "normal 0 0 0"),
    ("redis.clients", E, setting(proto_max_bulk_len="1048576"), "512mb"),
    ("redis.clients", W, info(connected_clients="9990"), "maxclients 20000"),
    ("redis.cluster", N, info(cluster_enabled="1"), "hash tag"),
    ("redis.clock", W, replace(HEALTHY, clock_ms=-7_200_000.0), "2 h behind"),
    ("redis.disk", W, replace(HEALTHY, free_bytes=1 << 20), "1.0 MiB free"),
    ("redis.reachable", E, replace(HEALTHY, unreachable="no answer within 5 s"), "no answer within 5 s"),
]


@pytest.mark.parametrize(("check", "severity", "facts", "words"), CASES)
def test_one_thing_that_is_wrong_is_found_by_one_check(
    check: str, severity: Severity, facts: RedisFacts, words: str
) -> None:
    found = [each for each in found_in(facts) if each.severity > Severity.OK]
    own = [each for each in found if each.check == check]
    assert [each.severity for each in own] == [severity], found
    assert words in own[0].line
    assert own[0].why
    # what is too old for WAITAOF is said of every such server, and without a file two have something to say
    others = {each.check for each in found} - {check, "redis.version"}
    assert others <= {"redis.durable", "redis.replicas", "redis.allowed"}, found


def test_every_check_is_seen_to_speak() -> None:
    assert {name for name, *_ in CASES} == EVERY


@pytest.mark.parametrize(
    "facts",
    [
        setting(appendfsync="always"),
        info(maxmemory="0"),
        setting(timeout="60"),
        replace(HEALTHY, clock_ms=900.0),
        replace(HEALTHY, clock_ms=1500.0, clock_error_ms=600.0),
        replace(HEALTHY, free_bytes=None),
        replace(HEALTHY, job=Job("fraud", interval_ms=100), write_ms=(30.0,)),
    ],
)
def test_what_is_just_good_enough_is_left_in_peace(facts: RedisFacts) -> None:
    assert [each.line for each in found_in(facts) if each.severity > Severity.OK] == []


def test_a_replica_is_not_also_blamed_for_taking_no_writes() -> None:
    facts = replace(info(role="slave", master_host="r1", master_port="6379"), write_error="READONLY")
    assert [each.check for each in found_in(facts) if each.severity > Severity.OK] == ["redis.role"]
