"""Checkpoints in Redis. Keys and scripts are in `redis_scripts`, the connection in `redis_link`.

How a checkpoint gets there:

1. each worker puts its blobs: begin (it is in the index now, so that it can be swept), slices, end (all are there);
2. the owner's commit puts the manifest as a blob of its own, sees to it that the server's settings still promise
   durability, and makes the checkpoint known by one script, which looks whether all it refers to is there;
3. where the server can be asked to wait for its disk (WAITAOF), that ends both 1 and 2.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
import zlib
from collections.abc import Collection, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
from redis.exceptions import ResponseError

from ostinato.state import manifest as manifests
from ostinato.state.errors import (
    DamagedError,
    DurabilityError,
    FencedError,
    LostError,
    OccupiedError,
    SnapshotError,
    StoreError,
)
from ostinato.state.steps import reached
from ostinato.state.stores import redis_proof, redis_scripts
from ostinato.state.stores.base import Entry, Pieces
from ostinato.state.stores.files import checked_name
from ostinato.state.stores.options import StoreOptions
from ostinato.state.stores.process import Owner, next_token
from ostinato.state.stores.redis_link import Command, Connection, Loop, refused, shown
from ostinato.state.stores.redis_scripts import SLICE_BYTES, Keys, call, slices_of

_BATCH: Final = 8
"""Slices that go to and fro at once."""
_POLL_SECONDS: Final = 0.2
T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Known(msgspec.Struct, frozen=True):
    """What is known of a checkpoint before its manifest is read. `blob`: its name, size and CRC-32."""

    savepoint: bool
    taken_at: int
    blob: manifests.BlobRef
    format: int = 1


class RedisStore:
    """The checkpoints of a job in a Redis. See `CheckpointStore`."""

    def __init__(self, address: str, job: str, options: StoreOptions) -> None:
        """`address`: see `open_store`. Raises ValueError where it is none."""
        self._keys = Keys(job)
        self._options = options
        self.address = shown(address)
        self._connection = Connection(address, options.timeout_seconds)
        self._heart = Connection(address, options.timeout_seconds)
        self._loop: Loop | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._turn: asyncio.Lock = asyncio.Lock()
        self._nonce = secrets.token_hex(8)
        self._token: int | None = None
        self._record = b""
        self._beating: asyncio.Task[None] | None = None
        self._proof: redis_proof.Proof | None = None
        self._newest: int | None = None

    # Ownership

    def acquire(self, owner: str) -> int:
        self._call(self._prove())
        self._record = msgspec.json.encode(Owner.this_process(self._keys.job, 0, owner))
        dead, least, seen = "", None, None
        while True:
            token = next_token(0)
            lease_ms = round(self._options.lease_seconds * 1000)
            keys = (self._keys.owner, self._keys.lease)
            arguments = (token, self._record, self._nonce, lease_ms, dead)
            answer = self._call(self._script(call(redis_scripts.ACQUIRE, keys, *arguments), "a lease"))
            if answer[0] == b"ok":
                break
            _, record, held, left_ms = answer
            holder = _owner(record)
            if holder is not None and holder.has_ended():
                dead = held.decode()
                continue
            # whoever lives refreshes the lease; one that only runs out was left behind
            if (held, record) != seen or (least is not None and left_ms > least):
                if seen is not None:
                    who = holder or "another process"
                    raise OccupiedError(f"{self.address} is in use by {who}: stop it, or choose another database")
                seen = (held, record)
            least = left_ms
            time.sleep(_POLL_SECONDS)
        self._token = int(answer[1])
        self._newest = max((entry.id for entry in self.entries()), default=None)
        self._call(self._begin_to_beat())
        return self._token

    def join(self, token: int) -> None:
        self._token = token
        self._call(self._fenced(call(redis_scripts.CHECK, [self._keys.owner], token)))

    def release(self) -> None:
        if self._beating is not None and self._token is not None:
            self._call(self._end_beating())
            with suppress(StoreError):
                keys = (self._keys.owner, self._keys.lease)
                self._call(self._fenced(call(redis_scripts.RELEASE, keys, self._token)))
        self._token = None

    def close(self) -> None:
        with suppress(StoreError):
            self.release()
        with self._guard:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close(self._drop)

    # Writing

    def put(self, name: str, data: Pieces) -> None:
        self._call(self._put(checked_name(name), data))

    def commit(self, entry: Entry, manifest: bytes) -> None:
        """Also raises LostError where something is gone that the manifest refers to, or the checkpoint before it."""
        self._call(self._commit(entry, manifest))
        self._newest = entry.id

    def delete(self, id: int, blobs: Collection[str]) -> None:  # noqa: A002
        self._call(self._delete(id, blobs))
        if id == self._newest:
            self._newest = None

    def sweep(self, keep: Collection[str]) -> int:
        return self._call(self._sweep(keep))

    # Reading

    def get(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        return self._call(self._get(checked_name(name), offset, length))

    def entries(self) -> list[Entry]:
        return self._call(self._entries())

    def manifest(self, id: int) -> bytes:  # noqa: A002
        return self._call(self._manifest(id))

    def jobs(self) -> list[str]:
        """The jobs that have checkpoints in this database, by name."""
        return self._call(self._jobs())

    def owner(self) -> Owner | None:
        """Who has it, or had it last."""
        (answer,) = self._call(self._batch([("HMGET", self._keys.owner, "record", "token")]))
        return _owner(answer[0] or b"", int(answer[1] or 0))

    # Writing, in the loop

    async def _put(self, name: str, data: Pieces) -> None:
        async with self._turn:
            await self._put_blob(name, data)
            await self._wait()

    async def _put_blob(self, name: str, data: Pieces) -> None:
        """Not yet proven to be durable."""
        size = sum(len(piece) for piece in data)
        keys = self._keys.slices(name, slices_of(size))
        token, owner, index, blob = self._own(), self._keys.owner, self._keys.index, self._keys.blob(name)
        pending = [call(redis_scripts.BEGIN_BLOB, (owner, index, blob), token, name, len(keys))]
        doing = f"blob {name}"
        try:
            for key, part in zip(keys, _cut(data), strict=True):
                pending.append(call(redis_scripts.PUT_SLICE, (owner, key), token, part))
                if len(pending) >= _BATCH:
                    await self._all_fenced(pending, doing)
                    pending = []
            await self._all_fenced(pending, doing)
            reached("blob.written")
            await self._all_fenced(
                [call(redis_scripts.END_BLOB, (owner, index, blob, *keys), token, name, size)], doing
            )
        except StoreError as error:
            # what is half there takes memory, which may be why it was refused
            if isinstance(error.__cause__, ResponseError):
                with suppress(StoreError):
                    await self._all_fenced([self._dropping(name, len(keys))], doing)
            raise

    async def _commit(self, entry: Entry, manifest: bytes) -> None:
        decoded = manifests.decode(manifest, f"the new manifest of checkpoint {entry.id}")
        token = self._own()
        name = f"manifest-{entry.id}-{secrets.token_hex(4)}"
        known = _Known(entry.savepoint, entry.taken_at, manifests.BlobRef(name, len(manifest), zlib.crc32(manifest)))
        keys = [self._keys.owner, self._keys.checkpoints]
        arguments: list[str | int | bytes] = [
            token,
            entry.id,
            msgspec.json.encode(known),
            "" if self._newest is None else self._newest,
        ]
        for blob in (*decoded.blobs, known.blob):
            keys += [self._keys.blob(blob.name), *self._keys.slices(blob.name, slices_of(blob.size))]
            arguments += [blob.name, blob.size, slices_of(blob.size)]
        async with self._turn:
            await self._examine()
            await self._put_blob(name, [manifest])
            try:
                await self._all_fenced([call(redis_scripts.COMMIT, keys, *arguments)], f"checkpoint {entry.id}")
            except LostError:
                # the next one is whole, and builds on nothing
                self._newest = None
                with suppress(StoreError):
                    await self._drop_blobs([name])
                raise
            await self._wait()

    async def _delete(self, id: int, blobs: Collection[str]) -> None:  # noqa: A002
        async with self._turn:
            known = await self._known(id)
            keys = (self._keys.owner, self._keys.checkpoints)
            await self._all_fenced([call(redis_scripts.FORGET, keys, self._own(), id)], f"deleting checkpoint {id}")
            reached("retain.manifest")
            await self._drop_blobs([*blobs, *([known.blob.name] if known else [])])

    async def _sweep(self, keep: Collection[str]) -> int:
        async with self._turn:
            kept = set(keep)
            await self._all_fenced([call(redis_scripts.CHECK, [self._keys.owner], self._own())], "sweeping")
            (found,) = await self._batch_now([("HGETALL", self._keys.checkpoints)])
            for number, known in _checkpoints(found).items():
                kept.add(known.blob.name)
                try:
                    data = await self._read(known.blob.name, 0, known.blob.size)
                    kept.update(blob.name for blob in manifests.decode(data, f"checkpoint {number}").blobs)
                except DamagedError:
                    continue
                except SnapshotError:
                    return 0
            (index,) = await self._batch_now([("HKEYS", self._keys.index)])
            return await self._drop_blobs([name for raw in index if (name := raw.decode()) not in kept])

    async def _drop_blobs(self, names: Sequence[str]) -> int:
        freed = 0
        for begin in range(0, len(names), _BATCH):
            some = names[begin : begin + _BATCH]
            (counts,) = await self._batch_now([("HMGET", self._keys.index, *some)])
            dropping = [
                self._dropping(name, int(count)) for name, count in zip(some, counts, strict=True) if count is not None
            ]
            freed += sum(answer[1] for answer in await self._all_fenced(dropping, "deleting blobs"))
        return freed

    def _dropping(self, name: str, slices: int) -> Command:
        keys = (self._keys.owner, self._keys.index, self._keys.blob(name), *self._keys.slices(name, slices))
        return call(redis_scripts.DROP_BLOB, keys, self._own(), name)

    # Reading, in the loop

    async def _get(self, name: str, offset: int, length: int) -> bytes:
        async with self._turn:
            return await self._read(name, offset, length)

    async def _read(self, name: str, offset: int, length: int) -> bytes:
        if length < 0:
            (size,) = await self._batch_now([("GET", self._keys.blob(name))])
            if size is None:
                raise DamagedError(f"blob {name} is missing in {self.address}")
            length = max(0, int(size) - offset)
        end = offset + length
        slices = range(offset // SLICE_BYTES, slices_of(end) if length else offset // SLICE_BYTES)
        keys = self._keys.slices(name, slices.stop)
        commands: list[Command] = [
            ("GETRANGE", keys[at], max(0, offset - at * SLICE_BYTES), min(SLICE_BYTES, end - at * SLICE_BYTES) - 1)
            for at in slices
        ]
        parts: list[bytes] = []
        for begin in range(0, len(commands), _BATCH):
            parts += await self._batch_now(commands[begin : begin + _BATCH])
        found = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(found) != length:
            raise DamagedError(
                f"blob {name} in {self.address} is missing or cut short: {len(found)} bytes instead of {length}"
            )
        return found

    async def _entries(self) -> list[Entry]:
        (found,) = await self._batch([("HGETALL", self._keys.checkpoints)])
        entries = [
            Entry(number, known.savepoint, known.taken_at, known.blob.size)
            for number, known in _checkpoints(found).items()
        ]
        return sorted(entries, key=lambda entry: entry.id, reverse=True)

    async def _manifest(self, id: int) -> bytes:  # noqa: A002
        async with self._turn:
            known = await self._known(id)
            if known is None:
                raise DamagedError(f"there is no checkpoint {id} of job {self._keys.job} in {self.address}")
            return await self._read(known.blob.name, 0, known.blob.size)

    async def _known(self, id: int) -> _Known | None:  # noqa: A002
        (raw,) = await self._batch_now([("HGET", self._keys.checkpoints, id)])
        return None if raw is None else _checkpoints([str(id).encode(), raw])[id]

    async def _jobs(self) -> list[str]:
        found, cursor = set(), b"0"
        while True:
            ((cursor, keys),) = await self._batch([("SCAN", cursor, "MATCH", Keys.any_checkpoints(), "COUNT", 1000)])
            found |= {Keys.job_of(key.decode()) for key in keys}
            if cursor == b"0":
                return sorted(found)

    # Durability

    async def _prove(self) -> None:
        async with self._turn:
            await self._examine()

    async def _examine(self) -> None:
        """Look at the server's settings, and refuse those that promise nothing."""
        before, self._proof = self._proof, await redis_proof.examine(self._connection)
        if not self._proof.doubt:
            return
        if self._options.durability != "lowered":
            raise DurabilityError(
                f"{self.address} cannot prove that what it takes survives a crash: {self._proof.doubt}"
            )
        if before is None or before.doubt != self._proof.doubt:
            _log.warning(
                "DURABILITY LOWERED: %s may lose checkpoints that were said to be complete: %s",
                self.address,
                self._proof.doubt,
            )

    async def _wait(self) -> None:
        if self._proof is None:
            # a worker's store: its owner has looked and said what there is to say
            self._proof = await redis_proof.examine(self._connection)
        if self._proof.waits and not self._proof.always and not self._proof.doubt:
            await redis_proof.wait(self._connection, self.address, self._options.timeout_seconds)

    # The lease

    async def _begin_to_beat(self) -> None:
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def _end_beating(self) -> None:
        task, self._beating = self._beating, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._heart.drop()

    async def _beat(self) -> None:
        """Refresh the lease for ever, on a connection of its own: a slow command does not cost the ownership."""
        while True:
            await asyncio.sleep(self._options.lease_seconds / 3)
            # whatever is wrong, whoever writes next is told
            with suppress(StoreError):
                await self._refresh(self._heart)

    async def _refresh(self, connection: Connection) -> None:
        keys = (self._keys.owner, self._keys.lease)
        lease_ms = round(self._options.lease_seconds * 1000)
        command = call(redis_scripts.REFRESH, keys, self._own(), self._record, self._nonce, lease_ms)
        (answer,) = await connection.batch(command)
        if not isinstance(answer, Exception) and answer[0] == b"lost":
            _log.warning("%s has lost what was in it; the next checkpoint is a whole one", self.address)

    # Commands

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop, from any thread."""
        with self._guard:
            if self._closed:
                work.close()
                raise StoreError(f"{self.address} was closed by this process")
            if self._loop is None:
                self._loop = Loop(f"checkpoints-{self._keys.job}")
            loop = self._loop
        return loop.call(work)

    async def _batch(self, commands: Sequence[Command]) -> list[Any]:
        async with self._turn:
            return await self._batch_now(commands)

    async def _batch_now(self, commands: Sequence[Command], doing: str = "reading") -> list[Any]:
        """The answers, none of which is an error."""
        if not commands:
            return []
        answers = await self._connection.batch(*commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise refused(self.address, doing, answer) from answer
        return answers

    async def _script(self, command: Command, doing: str) -> Any:
        async with self._turn:
            return (await self._batch_now([command], doing))[0]

    async def _fenced(self, command: Command) -> None:
        async with self._turn:
            await self._all_fenced([command], "writing")

    async def _all_fenced(self, commands: Sequence[Command], doing: str) -> list[Any]:
        """The answers of scripts that change something. Raises FencedError, LostError, StoreError."""
        answers = await self._batch_now(commands, doing)
        for answer in answers:
            if answer[0] == b"fenced":
                by = _owner(answer[1]) or "another process"
                raise FencedError(f"{self.address} belongs by now to {by}: what this process has begun is void")
        for answer in answers:
            if answer[0] == b"lost":
                names = [name.decode() for name in answer[1:]]
                if self._beating is not None:
                    # the owner's record may be among what is lost
                    await self._refresh(self._connection)
                raise LostError(
                    f"{self.address} has lost {', '.join(names)}: the next checkpoint is a whole one", names
                )
        return answers

    def _own(self) -> int:
        if self._token is None:
            raise StoreError(f"{self.address} is not owned by this process: it was only opened for reading")
        return self._token

    async def _drop(self) -> None:
        await self._connection.drop()
        await self._heart.drop()


def _owner(record: bytes, token: int = 0) -> Owner | None:
    try:
        return msgspec.structs.replace(msgspec.json.decode(record, type=Owner), token=token)
    except msgspec.MsgspecError:
        return None


def _checkpoints(pairs: Sequence[bytes]) -> dict[int, _Known]:
    """What HGETALL says of checkpoints."""
    found = {}
    for number, raw in zip(pairs[::2], pairs[1::2], strict=True):
        try:
            found[int(number)] = msgspec.json.decode(raw, type=_Known)
        except (msgspec.MsgspecError, ValueError):
            # it is there, and reading it says that it is damaged
            found[int(number)] = _Known(False, 0, manifests.BlobRef("damaged", 0, 0))
    return found


def _cut(data: Pieces) -> Iterator[bytes]:
    """Data in slices; no more than one is copied at a time."""
    parts: list[memoryview] = []
    room = SLICE_BYTES
    for piece in data:
        rest = memoryview(piece).cast("B")
        while len(rest):
            part, rest = rest[:room], rest[room:]
            parts.append(part)
            room -= len(part)
            if not room:
                yield b"".join(parts)
                parts, room = [], SLICE_BYTES
    if parts:
        yield b"".join(parts)
