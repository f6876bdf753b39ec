"""What is done in Redis in one step each: Lua scripts, and the names of keys.

All keys of a job have one hash tag, so that they are on one node of a Redis Cluster::

    ostinato:{JOB}:owner          hash: token, nonce, record (JSON, see `Owner`)
    ostinato:{JOB}:lease          the token; lives as long as the owner refreshes it
    ostinato:{JOB}:blobs          hash: name -> number of slices, of those too that were begun and never finished
    ostinato:{JOB}:blob:NAME      size in bytes; written last
    ostinato:{JOB}:blob:NAME:3    slice 3
    ostinato:{JOB}:checkpoints    hash: id -> what there is to know (JSON); a checkpoint is there once it is here

Every script that writes is told the fencing token, and does nothing where it is not the one that is held. Each answers
with a word and details: ``ok``, ``fenced``, ``lost`` (and what), ``held``. All may run twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

PREFIX: Final = "ostinato:{"
SLICE_BYTES: Final = 1 << 20
"""Redis does one thing at a time: larger values would keep others waiting."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a job."""

    job: str

    def _key(self, rest: str) -> str:
        return f"{PREFIX}{quote(self.job, safe='')}}}:{rest}"

    @property
    def owner(self) -> str:
        return self._key("owner")

    @property
    def lease(self) -> str:
        return self._key("lease")

    @property
    def index(self) -> str:
        return self._key("blobs")

    @property
    def checkpoints(self) -> str:
        return self._key("checkpoints")

    def blob(self, name: str) -> str:
        return self._key(f"blob:{name}")

    def slices(self, name: str, count: int) -> list[str]:
        return [self._key(f"blob:{name}:{number}") for number in range(count)]

    @staticmethod
    def any_checkpoints() -> str:
        """What `checkpoints` of all jobs looks like, for SCAN."""
        return f"{PREFIX}*}}:checkpoints"

    @staticmethod
    def job_of(key: str) -> str:
        """The job that a key belongs to.

        >>> Keys.job_of(Keys("a b").owner)
        'a b'
        """
        return unquote(key.removeprefix(PREFIX).partition("}")[0])


def slices_of(size: int) -> int:
    """How many slices a blob of this size has; an empty one has none."""
    return -(-size // SLICE_BYTES)


def call(script: str, keys: Sequence[str], *arguments: str | int | bytes) -> tuple[str | int | bytes, ...]:
    """The command that runs a script. The text goes along each time: a restarted server has none."""
    return ("EVAL", script, len(keys), *keys, *arguments)


_FENCE: Final = """
local held = tonumber(redis.call('HGET', KEYS[1], 'token') or '0')
local mine = tonumber(ARGV[1])
if held > mine then return {'fenced', redis.call('HGET', KEYS[1], 'record') or ''} end
if held < mine then return {'lost', 'the record of its owner'} end
"""
"""KEYS[1]: owner; ARGV[1]: token. A smaller token than ours means that the store was wiped or has fallen back."""

ACQUIRE: Final = """
-- KEYS: owner, lease. ARGV: least token, record, nonce, lease in ms, token of an owner that is known to be dead
local lease = redis.call('GET', KEYS[2])
if lease and lease ~= ARGV[5] and redis.call('HGET', KEYS[1], 'nonce') ~= ARGV[3] then
  return {'held', redis.call('HGET', KEYS[1], 'record') or '', lease, redis.call('PTTL', KEYS[2])}
end
local token = math.max(tonumber(redis.call('HGET', KEYS[1], 'token') or '0') + 1, tonumber(ARGV[1]))
local text = string.format('%.0f', token)
redis.call('HSET', KEYS[1], 'token', text, 'nonce', ARGV[3], 'record', ARGV[2])
redis.call('SET', KEYS[2], text, 'PX', ARGV[4])
return {'ok', text}
"""

REFRESH: Final = """
-- KEYS: owner, lease. ARGV: token, record, nonce, lease in ms
local held = tonumber(redis.call('HGET', KEYS[1], 'token') or '0')
if held > tonumber(ARGV[1]) then return {'fenced', redis.call('HGET', KEYS[1], 'record') or ''} end
local answer = {'ok'}
if held < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'token', ARGV[1], 'nonce', ARGV[3], 'record', ARGV[2])
  answer = {'lost', 'the record of its owner'}
end
-- refreshing needs no memory, where a new key may be refused for the lack of it
if redis.call('PEXPIRE', KEYS[2], ARGV[4]) == 0 then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4]) end
return answer
"""

RELEASE: Final = (
    _FENCE
    + """
-- KEYS: owner, lease
redis.call('DEL', KEYS[2])
return {'ok'}
"""
)

CHECK: Final = _FENCE + "return {'ok'}"

BEGIN_BLOB: Final = (
    _FENCE
    + """
-- KEYS: owner, index, blob. ARGV: token, name, number of slices
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('DEL', KEYS[3])
return {'ok'}
"""
)

PUT_SLICE: Final = (
    _FENCE
    + """
-- KEYS: owner, slice. ARGV: token, bytes
redis.call('SET', KEYS[2], ARGV[2])
return {'ok'}
"""
)

END_BLOB: Final = (
    _FENCE
    + """
-- KEYS: owner, index, blob, slices. ARGV: token, name, size
local size = 0
for number = 4, #KEYS do size = size + redis.call('STRLEN', KEYS[number]) end
if size ~= tonumber(ARGV[3]) or redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then
  return {'lost', 'blob ' .. ARGV[2]}
end
redis.call('SET', KEYS[3], ARGV[3])
return {'ok'}
"""
)

COMMIT: Final = (
    _FENCE
    + """
-- KEYS: owner, checkpoints, then of each blob: blob, slices.
-- ARGV: token, id, what there is to know, the checkpoint before ('' for none), then of each blob: name, size, slices
local lost = {'lost'}
if ARGV[4] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[4]) == 0 then lost[2] = 'checkpoint ' .. ARGV[4] end
local key = 3
for argument = 5, #ARGV, 3 do
  local size = 0
  for number = key + 1, key + tonumber(ARGV[argument + 2]) do size = size + redis.call('STRLEN', KEYS[number]) end
  if redis.call('GET', KEYS[key]) ~= ARGV[argument + 1] or size ~= tonumber(ARGV[argument + 1]) then
    lost[#lost + 1] = 'blob ' .. ARGV[argument]
  end
  key = key + 1 + tonumber(ARGV[argument + 2])
end
if #lost > 1 then return lost end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return {'ok'}
"""
)

FORGET: Final = (
    _FENCE
    + """
-- KEYS: owner, checkpoints. ARGV: token, id
redis.call('HDEL', KEYS[2], ARGV[2])
return {'ok'}
"""
)

DROP_BLOB: Final = (
    _FENCE
    + """
-- KEYS: owner, index, blob, slices. ARGV: token, name
local size = 0
for number = 4, #KEYS do
  size = size + redis.call('STRLEN', KEYS[number])
  redis.call('UNLINK', KEYS[number])
end
redis.call('DEL', KEYS[3])
redis.call('HDEL', KEYS[2], ARGV[2])
return {'ok', size}
"""
)
