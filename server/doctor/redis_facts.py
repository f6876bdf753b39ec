"""Asks a Redis what the checks want to know, and does in it, on keys that vanish, what a checkpoint store does."""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ostinato.server.doctor.job import Job
from ostinato.server.doctor.reach import TIMEOUT_SECONDS, unreachable
from ostinato.state.errors import StoreError
from ostinato.state.stores import redis_proof
from ostinato.state.stores.redis_link import Command, Connection, refused, shown
from ostinato.state.stores.redis_scripts import Keys, call

_WRITES: Final = 10
_WRITE_BYTES: Final = 4096
_SCRATCH_MS: Final = 60_000
"""What is written vanishes by itself if it cannot be taken away."""
_REFUSALS: Final = ("NOPERM", "permission", "can't run this command", "nknown command", "nknown Redis command")
_LOCAL: Final = frozenset(("127.0.0.1", "localhost", "::1"))
_ASKED: Final = (
    "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy", "save", "timeout",
    "min-replicas-to-write", "client-output-buffer-limit", "proto-max-bulk-len", "maxclients", "dir",
    "stop-writes-on-bgsave-error",
)  # fmt: skip

_PROBE: Final = """
-- KEYS: a hash, a text. Every command of the store's scripts; answers with those that may not be used here, and leaves
-- nothing
local wrong = {}
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then wrong[#wrong + 1] = (...) .. ': ' .. answer.err end
end
try('HSET', KEYS[1], 'f', '1') try('HGET', KEYS[1], 'f') try('HEXISTS', KEYS[1], 'f') try('HDEL', KEYS[1], 'f')
try('SET', KEYS[2], 'x', 'PX', ARGV[1]) try('GET', KEYS[2]) try('STRLEN', KEYS[2]) try('PTTL', KEYS[2])
try('PEXPIRE', KEYS[2], ARGV[1]) try('UNLINK', KEYS[2]) try('DEL', KEYS[1], KEYS[2])
return wrong
"""
_WRITE: Final = "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 'ok'"


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """A Redis.

    Attributes:
        job: the job whose checkpoints are to be there.
        address: without its password.
        unreachable: why nothing else is known; empty where it was reached.
        info: what INFO says.
        settings: what CONFIG GET says; None where that is forbidden.
        waitaof: whether it can be asked to wait for its disk.
        doubt: what the store itself would say against using it; empty where nothing.
        forbidden: commands of the store that may not be used on its keys, and what is said about them.
        write_ms: how long durable writes took, each in turn; empty where none came through.
        write_error: why not.
        clock_ms: how far its clock is ahead of ours.
        clock_error_ms: how much of that the way there and back may account for.
        partitions: of the job, each with a store of its own.
        free_bytes: on its disk, where that is this machine's; None where nobody knows.
    """

    job: Job
    address: str
    unreachable: str = ""
    info: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] | None = None
    waitaof: bool = False
    doubt: str = ""
    forbidden: tuple[str, ...] = ()
    write_ms: tuple[float, ...] = ()
    write_error: str = ""
    clock_ms: float = 0.0
    clock_error_ms: float = 0.0
    free_bytes: int | None = None
    partitions: int = 1

    @property
    def median_ms(self) -> float:
        return statistics.median(self.write_ms) if self.write_ms else 0.0

    def setting(self, name: str) -> str | None:
        return None if self.settings is None else self.settings.get(name)

    def number(self, name: str) -> int | None:
        """A number that INFO tells, or else CONFIG GET."""
        for value in (self.info.get(name), self.setting(name)):
            if value is not None and value.lstrip("-").isdigit():
                return int(value)
        return None

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.info.get("redis_version", "").split(".") if part.isdigit())


def gather(job: Job, address: str, partitions: int = 1) -> RedisFacts:
    """The facts of the Redis at an address; see there."""
    facts = RedisFacts(job, shown(address), partitions=max(1, partitions))
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "localhost", parts.port or 6379
    except ValueError as error:
        return replace(facts, unreachable=str(error))
    if parts.scheme != "unix" and (reason := unreachable(host, port)):
        return replace(facts, unreachable=reason)
    try:
        return asyncio.run(_gather(facts, address))
    except StoreError as error:
        return replace(facts, unreachable=str(error).removeprefix(f"{facts.address} "))


async def _gather(facts: RedisFacts, address: str) -> RedisFacts:
    connection = Connection(address, TIMEOUT_SECONDS)
    try:
        (first,) = await connection.batch(("PING",))
        before = time.time()
        clock, info, *configs, knows = await connection.batch(
            ("TIME",), ("INFO",), *(("CONFIG GET", name) for name in _ASKED), ("COMMAND", "INFO", "WAITAOF")
        )
        way_ms = (time.time() - before) * 1000
        if isinstance(first, Exception) and isinstance(info, Exception):
            # without a password every command is refused in the same words
            raise refused(facts.address, "connecting", first)
        proof = await redis_proof.examine(connection)
        settings = None
        if not isinstance(configs[0], Exception):
            settings = {name: value for answer in configs for name, value in _pairs(answer)}
        facts = replace(
            facts,
            info=_info(info),
            settings=settings,
            waitaof=isinstance(knows, list) and any(knows),
            doubt=proof.doubt,
            forbidden=await _forbidden(connection, facts.job, proof.waits),
            free_bytes=_free_bytes(address, settings),
        )
        if not isinstance(clock, Exception):
            now_ms = int(clock[0]) * 1000 + int(clock[1]) / 1000
            facts = replace(facts, clock_ms=now_ms - before * 1000 - way_ms / 2, clock_error_ms=way_ms / 2)
        try:
            times = await _write_times(connection, facts.job, wait=proof.waits and not proof.always)
            return replace(facts, write_ms=times)
        except StoreError as error:
            return replace(facts, write_error=str(error).removeprefix(f"{facts.address} "))
    finally:
        await connection.drop()


async def _forbidden(connection: Connection, job: Job, waits: bool) -> tuple[str, ...]:
    """The store's commands, each tried where it does no harm."""
    wrong: list[str] = []
    for keys in _keys(job):
        scratch = _scratch(keys)
        commands: list[Command] = [
            call(_PROBE, [f"{scratch}:hash", f"{scratch}:text"], _SCRATCH_MS),
            ("HGETALL", keys.checkpoints),
            ("HKEYS", keys.index),
            ("HMGET", keys.index, "none"),
            ("HGET", keys.checkpoints, "0"),
            ("GET", scratch),
            ("GETRANGE", scratch, 0, 1),
            ("SCAN", 0, "MATCH", Keys.any_checkpoints(), "COUNT", 1),
            ("INFO", "persistence"),
            *([("WAITAOF", 0, 0, 1)] if waits else []),
        ]
        answers = await connection.batch(*commands)
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, Exception):
                wrong.append(str(command[0]) + f": {answer}")
            elif command[0] == "EVAL":
                wrong += [each.decode(errors="replace") for each in answer]
    # what else may be wrong (no memory, a replica) is seen by writing
    return tuple(dict.fromkeys(each for each in wrong if any(words in each for words in _REFUSALS)))


async def _write_times(connection: Connection, job: Job, *, wait: bool) -> tuple[float, ...]:
    """How long writes take until they survive a crash, in ms. Raises StoreError."""
    key = f"{_scratch(_keys(job)[0])}:written"
    times = []
    commands: list[Command] = [call(_WRITE, [key], b"x" * _WRITE_BYTES, _SCRATCH_MS)]
    if wait:
        commands.append(redis_proof.waiting(TIMEOUT_SECONDS))
    for _ in range(_WRITES):
        began = time.perf_counter()
        answers = await connection.batch(*commands)
        times.append((time.perf_counter() - began) * 1000)
        if isinstance(answers[0], Exception):
            raise refused("", "writing", answers[0])
        if wait:
            redis_proof.check_waited(answers[1], "it", TIMEOUT_SECONDS)
    await connection.batch(("DEL", key))
    return tuple(times)


def _keys(job: Job) -> Sequence[Keys]:
    """The keys of the job's store; a partitioned job has one for each partition."""
    return [Keys(f"{job.name}.0")] if job.partitioned else [Keys(job.name)]


def _scratch(keys: Keys) -> str:
    """A key beside the store's that nobody else has."""
    return f"{keys.owner.removesuffix('owner')}doctor:{secrets.token_hex(6)}"


def _pairs(answer: Any) -> list[tuple[str, str]]:
    texts = [item.decode(errors="replace") for item in answer] if isinstance(answer, list) else []
    return list(zip(texts[::2], texts[1::2], strict=True))


def _info(answer: Any) -> dict[str, str]:
    lines = answer.decode(errors="replace").splitlines() if isinstance(answer, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _free_bytes(address: str, settings: Mapping[str, str] | None) -> int | None:
    """Free space where it keeps its files, if they are certainly on this machine."""
    parts = urlsplit(address)
    folder = (settings or {}).get("dir")
    if not folder or (parts.scheme != "unix" and parts.hostname not in _LOCAL):
        return None
    # a container has folders of the same names: only one with its files in it is the one
    path = Path(folder)
    try:
        if not ((path / "appendonlydir").is_dir() or (path / "dump.rdb").is_file()):
            return None
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
