"""Whether a Redis keeps what it has taken, crash or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ostinato.state.errors import DurabilityError
from ostinato.state.stores.redis_link import Command, Connection

_ASKED: Final = ("appendonly", "appendfsync", "maxmemory-policy")
_REMEDY: Final = (
    "set `appendonly yes` and `appendfsync always` (CONFIG SET, and in redis.conf so that it stays), use a Redis "
    ">= 7.2 with `appendonly yes`, use a directory, or accept that a crash of Redis may cost the newest checkpoints "
    "(--durability lowered)"
)


@dataclass(frozen=True, slots=True)
class Proof:
    """How durability is known.

    Attributes:
        always: every answer comes after the disk has what it is about (`appendfsync always`).
        waits: it can be waited for (WAITAOF).
        doubt: why it is not known, empty where it is.
    """

    always: bool
    waits: bool
    doubt: str

    @property
    def must_wait(self) -> bool:
        return self.waits and not self.always and not self.doubt


async def examine(connection: Connection) -> Proof:
    """Look at a server's settings. Raises StoreError where it does not answer."""
    answers = await connection.batch(
        *(("CONFIG GET", name) for name in _ASKED),
        ("INFO", "memory"),
        ("INFO", "persistence"),
        ("COMMAND", "INFO", "WAITAOF"),
    )
    known = {name: value for answer in answers[:3] for name, value in _settings(answer).items()}
    memory, persistence = _info(answers[3]), _info(answers[4])
    forbidden = isinstance(answers[0], Exception)
    waits = _knows_waitaof(answers[5])
    only = known.get("appendonly") or ("yes" if persistence.get("aof_enabled") == "1" else "no")
    fsync = known.get("appendfsync", "")
    policy = known.get("maxmemory-policy") or memory.get("maxmemory_policy", "")
    if policy != "noeviction":
        said = f"maxmemory-policy is {policy}" if policy else "what it does when its memory is full is not known"
        return Proof(False, waits, f"{said}, so it may drop state: set `maxmemory-policy noeviction`")
    if only == "yes" and fsync == "always":
        return Proof(True, waits, "")
    if only == "yes" and waits:
        return Proof(False, True, "")
    if forbidden:
        doubt = "CONFIG is forbidden here, so its settings cannot be looked at, and it has no WAITAOF"
        if only != "yes":
            doubt = "it keeps no append-only file (INFO says aof_enabled:0)"
    elif only != "yes":
        doubt = "`appendonly` is no"
    else:
        doubt = f"`appendfsync` is {fsync}: it may lose what came last, and it has no WAITAOF (Redis 7.2)"
    return Proof(False, False, f"{doubt}; {_REMEDY}")


def waiting(timeout_seconds: float) -> Command:
    """The command that waits until the disk has what came before it on the same connection."""
    return ("WAITAOF", 1, 0, int(timeout_seconds * 900))


def check_waited(answer: Any, address: str, timeout_seconds: float) -> None:
    """Did it? Raises DurabilityError."""
    if isinstance(answer, Exception):
        raise DurabilityError(f"{address} cannot prove that it has written to its disk (WAITAOF: {answer}); {_REMEDY}")
    if not isinstance(answer, list) or not answer or int(answer[0]) < 1:
        raise DurabilityError(
            f"{address} has not written to its disk within {timeout_seconds:g} s (WAITAOF); look after its disk"
        )


def _settings(answer: Any) -> dict[str, str]:
    """What CONFIG GET says; nothing where that is forbidden."""
    texts = [item.decode() for item in answer] if isinstance(answer, list) else []
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _info(answer: Any) -> dict[str, str]:
    """What INFO says; nothing where that is forbidden."""
    lines = answer.decode().splitlines() if isinstance(answer, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _knows_waitaof(answer: Any) -> bool:
    return isinstance(answer, list) and any(entry for entry in answer)
