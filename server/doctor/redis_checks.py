"""Checks of a Redis that keeps checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ostinato.server.console import size
from ostinato.server.doctor.findings import Check, Finding, error, note, ok, span, warning
from ostinato.server.doctor.redis_facts import RedisFacts
from ostinato.state.stores.redis_scripts import SLICE_BYTES

WAITAOF_VERSION: Final = (7, 2)
_BATCH_BYTES: Final = 8 * SLICE_BYTES
"""So much is asked for at once when a checkpoint is read."""
_NEARLY: Final = 0.75
_FULL: Final = 0.95
_CLOCK_MS: Final = 1_000
_LEAST_FREE: Final = 1 << 30
_SPARE: Final = 10
_CONNECTIONS: Final = 2
"""Of each store: for what it writes, and for its lease."""


def reachable(facts: RedisFacts) -> Iterator[Finding]:
    """Does it answer?"""
    if facts.unreachable:
        yield error(
            _subject(facts),
            f"not reachable: {facts.unreachable}",
            "no checkpoint can be taken or read",
            f"start it, or correct the address; is {facts.address} right?",
        )
    else:
        yield ok(_subject(facts), f"reachable, Redis {facts.info.get('redis_version', 'of unknown version')}")


def version(facts: RedisFacts) -> Iterator[Finding]:
    """Can it be asked to wait for its disk?"""
    if facts.waitaof:
        yield ok(_subject(facts), "has WAITAOF: a checkpoint is complete when its disk has it")
    elif facts.info:
        yield note(
            _subject(facts),
            f"version {facts.info.get('redis_version')} has no WAITAOF",
            "only `appendfsync always` makes sure that a checkpoint survives a crash, at the cost of every write",
            "Redis 7.2 or later can be asked for single writes, with `appendfsync everysec`",
        )


def durable(facts: RedisFacts) -> Iterator[Finding]:
    """Does what it has taken survive a crash?"""
    subject = _subject(facts)
    # CONFIG may be forbidden, where INFO still says this much
    only = facts.setting("appendonly") or ("yes" if facts.info.get("aof_enabled") == "1" else "no")
    fsync, deferred = facts.setting("appendfsync"), facts.setting("no-appendfsync-on-rewrite")
    if only != "yes":
        yield error(
            subject,
            "appendonly is no",
            "a crash costs all since the last dump (`save`); such a Redis is refused",
            "CONFIG SET appendonly yes, and `appendonly yes` in redis.conf",
        )
    elif fsync is None and not facts.waitaof:
        yield error(
            subject,
            "CONFIG is forbidden, and it has no WAITAOF",
            "nobody can tell whether a checkpoint survives a crash; such a Redis is refused",
            "allow the user `+config|get`, or use Redis 7.2 or later",
        )
    elif fsync in ("everysec", "no") and not facts.waitaof:
        yield error(
            subject,
            f"appendfsync is {fsync}",
            "a crash may cost the newest checkpoints, which were said to be complete; such a Redis is refused",
            "CONFIG SET appendfsync always, and `appendfsync always` in redis.conf; or Redis 7.2 or later (WAITAOF)",
        )
    elif fsync == "no":
        yield warning(
            subject,
            "appendfsync is no",
            "it leaves writing to the operating system: a checkpoint may wait for long until its disk has it",
            "CONFIG SET appendfsync everysec, and `appendfsync everysec` in redis.conf",
        )
    else:
        yield ok(subject, f"appendonly yes, appendfsync {fsync or 'unknown'}{', WAITAOF' if facts.waitaof else ''}")
    if only == "yes" and fsync == "always" and deferred == "yes":
        yield (warning if facts.waitaof else error)(
            subject,
            "no-appendfsync-on-rewrite is yes",
            "while it rewrites its file or dumps, it says that it has written what it has not",
            "CONFIG SET no-appendfsync-on-rewrite no, and the same in redis.conf",
        )


def eviction(facts: RedisFacts) -> Iterator[Finding]:
    """Does it keep everything when its memory is full?"""
    policy = facts.setting("maxmemory-policy") or facts.info.get("maxmemory_policy")
    if policy == "noeviction":
        yield ok(_subject(facts), "maxmemory-policy is noeviction")
    else:
        yield error(
            _subject(facts),
            f"maxmemory-policy is {policy or 'not known'}",
            "it throws parts of checkpoints away when its memory is full; such a Redis is refused",
            "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
        )


def memory(facts: RedisFacts) -> Iterator[Finding]:
    """Is there room?"""
    used, most, machine = facts.number("used_memory"), facts.number("maxmemory"), facts.number("total_system_memory")
    if used is None:
        return
    limit, called = (most, "maxmemory") if most else (machine, "its machine's memory")
    if not limit:
        yield ok(_subject(facts), f"{size(used)} in use")
        return
    what = f"{size(used)} of {size(limit)} ({called}) in use"
    why = "checkpoints are refused when it is full, and the job waits" if most else "it is killed when it is full"
    change = "CONFIG SET maxmemory to more (and in redis.conf), or delete what else is in it"
    if used >= _FULL * limit:
        yield error(_subject(facts), what, why, change)
    elif used >= _NEARLY * limit:
        yield warning(_subject(facts), what, why, change)
    else:
        yield ok(_subject(facts), what)


def role(facts: RedisFacts) -> Iterator[Finding]:
    """Is it the one that may be written to?"""
    found = facts.info.get("role")
    if found == "slave":
        primary = f"{facts.info.get('master_host')}:{facts.info.get('master_port')}"
        yield error(
            _subject(facts),
            f"is a replica, of {primary}",
            "it takes no writes",
            f"give the address of the primary: redis://{primary}",
        )
    elif found is not None:
        yield ok(_subject(facts), f"role {found}")


def replicas(facts: RedisFacts) -> Iterator[Finding]:
    """What if this one is lost?"""
    count, needed = facts.number("connected_slaves"), facts.number("min-replicas-to-write") or 0
    if count is None or facts.info.get("role") != "master":
        return
    subject = _subject(facts)
    if not count and not needed:
        yield note(
            subject,
            "has no replicas",
            "if its disk is lost, checkpoints are: a job from Kafka to Kafka replays its input, another begins anew",
            "give it a replica with appendonly yes, and `min-replicas-to-write 1`; or back its files up",
        )
    elif count < needed:
        yield error(
            subject,
            f"{count} replica(s), and min-replicas-to-write is {needed}",
            "it takes no writes (NOREPLICAS)",
            "start the replicas, or CONFIG SET min-replicas-to-write 0",
        )
    elif not needed:
        yield warning(
            subject,
            f"{count} replica(s), but min-replicas-to-write is 0",
            "one of them may take over without the newest checkpoints. The job sees that and replays, which takes time",
            "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 10, and the same in redis.conf",
        )
    else:
        yield ok(subject, f"{count} replica(s), min-replicas-to-write {needed}")
    if count and facts.setting("appendonly") == "no" and facts.setting("save") == "":
        yield error(
            subject,
            "keeps nothing on its disk, and has replicas",
            "when it is restarted it is empty, and its replicas empty themselves as well",
            "CONFIG SET appendonly yes, and `appendonly yes` in redis.conf; until then, let nothing restart it",
        )


def persistence(facts: RedisFacts) -> Iterator[Finding]:
    """Did it last write to its disk without errors?"""
    subject, wrong = _subject(facts), False
    if facts.info.get("loading") == "1":
        wrong = True
        yield error(subject, "is still loading its data", "it answers nothing until then", "wait, and ask again")
    if facts.info.get("aof_last_write_status") == "err":
        wrong = True
        yield error(
            subject,
            "could not write to its append-only file (aof_last_write_status:err)",
            "it takes no writes until it can",
            "free some space on its disk, and look at its log",
        )
    if facts.info.get("aof_last_bgrewrite_status") == "err":
        wrong = True
        yield warning(
            subject,
            "could not rewrite its append-only file (aof_last_bgrewrite_status:err)",
            "the file grows until its disk is full",
            "free some space and memory, look at its log, then BGREWRITEAOF",
        )
    if facts.info.get("rdb_last_bgsave_status") == "err":
        wrong = True
        stops = facts.setting("stop-writes-on-bgsave-error") != "no" and facts.setting("save") != ""
        yield (error if stops else warning)(
            subject,
            "could not dump (rdb_last_bgsave_status:err)",
            "it takes no writes until it can (MISCONF)" if stops else "its dump is old",
            "free some space and memory, look at its log, then BGSAVE; or CONFIG SET save '', as the append-only file "
            "is what counts",
        )
    if not wrong and facts.info:
        yield ok(subject, "wrote to its disk without errors")


def latency(facts: RedisFacts) -> Iterator[Finding]:
    """Is a durable write fast enough for the interval?"""
    subject = _subject(facts)
    if facts.info.get("role") == "slave":
        return
    if facts.write_error:
        yield error(
            subject,
            f"a durable write failed: {facts.write_error}",
            "no checkpoint can be taken",
            "see what it says, and its log",
        )
        return
    if not facts.write_ms:
        return
    median, worst, interval = facts.median_ms, max(facts.write_ms), facts.job.interval_ms
    what = f"a durable write takes {median:.1f} ms (the slowest of {len(facts.write_ms)} {worst:.1f} ms)"
    # blobs, then the manifest, then making it known: each waits for the one before
    if 3 * median > interval:
        yield warning(
            subject,
            f"{what}; a checkpoint waits for three, and the interval is {span(interval)}",
            "checkpoints take longer than the interval",
            f"give it a faster disk, or the job a longer --interval ({round(10 * median)}ms)",
        )
    else:
        yield ok(subject, what)


def allowed(facts: RedisFacts) -> Iterator[Finding]:
    """May the store do what it does?"""
    subject = _subject(facts)
    if facts.forbidden:
        yield error(
            subject,
            "the store's commands are refused: "
            + ", ".join(facts.forbidden[:3])
            + (f" and {len(facts.forbidden) - 3} more" if len(facts.forbidden) > 3 else ""),
            "checkpoints fail",
            "ACL SETUSER NAME ~ostinato:* +@read +@write +@scripting +@connection +info +time +config|get"
            + (" +waitaof" if facts.waitaof else ""),
        )
    else:
        yield ok(subject, "every command of the store may be used on its keys")
    if facts.settings is None:
        yield note(
            subject,
            "CONFIG GET is forbidden",
            "its settings cannot be looked at",
            "ACL SETUSER NAME +config|get",
        )


def clients(facts: RedisFacts) -> Iterator[Finding]:
    """Does it keep the store's connections?"""
    subject, wrong = _subject(facts), False
    idle = facts.number("timeout") or 0
    if idle and idle * 1000 <= facts.job.interval_ms:
        wrong = True
        yield note(
            subject,
            f"timeout is {idle} s, and the interval {span(facts.job.interval_ms)}",
            "it closes the connection between any two checkpoints, and each begins with a new one",
            "CONFIG SET timeout 0, and the same in redis.conf",
        )
    hard = _output_limit(facts.setting("client-output-buffer-limit"))
    if hard and hard < 2 * _BATCH_BYTES:
        wrong = True
        yield warning(
            subject,
            f"client-output-buffer-limit of normal clients is {size(hard)}",
            f"a checkpoint is read {size(_BATCH_BYTES)} at a time: the connection is closed in the middle of it, and "
            "the job cannot go on from it",
            "CONFIG SET client-output-buffer-limit 'normal 0 0 0', and the same in redis.conf",
        )
    bulk = facts.number("proto-max-bulk-len")
    if bulk is not None and bulk < 2 * SLICE_BYTES:
        wrong = True
        yield error(
            subject,
            f"proto-max-bulk-len is {size(bulk)}",
            f"checkpoints are written in slices of {size(SLICE_BYTES)}",
            "CONFIG SET proto-max-bulk-len 512mb, and the same in redis.conf",
        )
    needed = _CONNECTIONS * facts.partitions + _SPARE
    most, connected = facts.number("maxclients"), facts.number("connected_clients")
    if most is not None and connected is not None and connected + needed > most:
        wrong = True
        yield warning(
            subject,
            f"{connected} of {most} clients (maxclients) are connected, and the job takes {needed}",
            f"each of its partitions takes {_CONNECTIONS}; one that is refused takes no checkpoint",
            f"CONFIG SET maxclients {max(10_000, 2 * most)}, and the same in redis.conf",
        )
    if not wrong and facts.settings is not None:
        yield ok(subject, "its limits for clients leave room")


def cluster(facts: RedisFacts) -> Iterator[Finding]:
    """Is it a cluster?"""
    if facts.info.get("cluster_enabled") == "1":
        yield note(
            _subject(facts),
            "is a node of a cluster",
            "the keys of a job are on one node (hash tag), and of a partitioned job those of a partition; a failover "
            "is no consensus, and may lose the newest checkpoint: the job sees that and replays",
        )
    elif facts.info:
        yield ok(_subject(facts), "is no cluster")


def clock(facts: RedisFacts) -> Iterator[Finding]:
    """Do its clock and ours agree?"""
    off, unsure = facts.clock_ms, facts.clock_error_ms
    if not facts.info:
        return
    what = f"its clock is {span(abs(off))} {'ahead of' if off > 0 else 'behind'} this machine's"
    if abs(off) > _CLOCK_MS + unsure:
        yield warning(
            _subject(facts),
            what,
            "times of events, of checkpoints and of log lines do not compare; processing time differs by machine",
            "let both machines set their clocks by NTP (chronyc tracking)",
        )
    else:
        yield ok(_subject(facts), f"{what}, give or take {span(max(1, unsure))}")


def disk(facts: RedisFacts) -> Iterator[Finding]:
    """Is there room on its disk?"""
    if facts.free_bytes is None:
        return
    if facts.free_bytes < _LEAST_FREE:
        yield warning(
            _subject(facts),
            f"{size(facts.free_bytes)} free where it keeps its files",
            "rewriting its append-only file takes as much again as it is large; with a full disk it takes no writes",
            "make room on that disk",
        )
    else:
        yield ok(_subject(facts), f"{size(facts.free_bytes)} free where it keeps its files")


def _output_limit(setting: str | None) -> int:
    """The hard limit of normal clients in bytes; 0: none."""
    words = (setting or "").split()
    return int(words[words.index("normal") + 1]) if "normal" in words else 0


def _subject(facts: RedisFacts) -> str:
    return f"redis {facts.address}"


REACHABLE: Final = Check("redis.reachable", "it answers, within 5 s", reachable)
CHECKS: Final[tuple[Check[RedisFacts], ...]] = (
    Check("redis.version", "WAITAOF (Redis 7.2)", version),
    Check(
        "redis.durable",
        "`appendonly yes`, with `appendfsync always` or WAITAOF; `no-appendfsync-on-rewrite no`",
        durable,
    ),
    Check("redis.eviction", "`maxmemory-policy noeviction`", eviction),
    Check("redis.memory", "`maxmemory`, or the machine's memory, against what is used", memory),
    Check("redis.role", "it is a primary", role),
    Check(
        "redis.replicas",
        "replicas and `min-replicas-to-write`; a primary without a file that would empty its replicas",
        replicas,
    ),
    Check("redis.persistence", "the last write, rewrite and dump went well, and nothing is being loaded", persistence),
    Check("redis.latency", "how long a durable write takes, against the interval", latency),
    Check("redis.allowed", "the store's commands may be used, each tried on a key that vanishes", allowed),
    Check(
        "redis.clients",
        "`timeout`, `client-output-buffer-limit`, `proto-max-bulk-len`, `maxclients` leave room",
        clients,
    ),
    Check("redis.cluster", "whether it is a node of a cluster, and what that means", cluster),
    Check("redis.clock", "its clock and this machine's differ by less than a second", clock),
    Check("redis.disk", "free space where it keeps its files, if those are on this machine", disk),
)
