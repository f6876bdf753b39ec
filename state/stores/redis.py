"""Checkpoints in Redis. Keys and scripts are in `redis_scripts`, ownership in `redis_lease`.

How a checkpoint gets there:

1. each worker puts its blobs: begin (it is in the index now, so that it can be swept), slices, end (all are there);
2. the owner's commit puts the manifest as a blob of its own, sees to it that the server's settings still promise
   durability, and makes the checkpoint known by one script, which looks whether all it refers to is there;
3. where the server can be asked to wait for its disk (WAITAOF), that ends both 1 and 2.
"""

from __future__ import annotations

import secrets
import threading
import zlib
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
from redis.exceptions import ResponseError

from ostinato.state import manifest as manifests
from ostinato.state.errors import DamagedError, LostError, SnapshotError, StoreError
from ostinato.state.eventloop import EventLoop
from ostinato.state.steps import reached
from ostinato.state.stores import redis_scripts
from ostinato.state.stores.base import Entry, Pieces
from ostinato.state.stores.files import checked_name
from ostinato.state.stores.options import StoreOptions
from ostinato.state.stores.process import Owner
from ostinato.state.stores.redis_lease import Lease
from ostinato.state.stores.redis_link import Command
from ostinato.state.stores.redis_scripts import SLICE_BYTES, Keys, call, slices_of
from ostinato.state.stores.redis_session import Session, owner_of
from ostinato.state.typed import decode_json

_BATCH: Final = 8
"""Slices that go to and fro at once."""
T = TypeVar("T")


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
        self.location = address
        self._keys = Keys(job)
        self._session = Session(address, self._keys, options)
        self._lease = Lease(address, self._session)
        self._loop: EventLoop | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._newest: int | None = None

    @property
    def address(self) -> str:
        return self._session.address

    # Ownership

    def acquire(self, owner: str, *, seize: bool = False) -> int:
        self._call(self._alone(self._session.examine))
        self._call(self._lease.acquire(owner, seize=seize))
        self._newest = max((entry.id for entry in self.entries()), default=None)
        return self._session.own()

    def join(self, token: int) -> None:
        self._session.token = token
        self._call(self._alone(self._check))

    def release(self) -> None:
        with suppress(StoreError):
            # a lease that cannot be given back runs out
            self._call(self._lease.release())
        self._session.token = None

    def close(self) -> None:
        if self._loop is not None:
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
        return self._call(self._owner())

    # Writing, in the loop

    async def _put(self, name: str, data: Pieces) -> None:
        async with self._session.turn:
            await self._session.know_settings()
            await self._put_blob(name, data, wait=True)

    async def _put_blob(self, name: str, data: Pieces, *, wait: bool) -> None:
        size = sum(len(piece) for piece in data)
        keys = self._keys.slices(name, slices_of(size))
        token, owner, index, blob = self._session.own(), self._keys.owner, self._keys.index, self._keys.blob(name)
        pending = [call(redis_scripts.BEGIN_BLOB, (owner, index, blob), token, name, len(keys))]
        doing = f"blob {name}"
        try:
            for key, part in zip(keys, _cut(data), strict=True):
                pending.append(call(redis_scripts.PUT_SLICE, (owner, key), token, part))
                if len(pending) >= _BATCH:
                    await self._session.write(*pending, doing=doing)
                    pending = []
            await self._session.write(*pending, doing=doing)
            reached("blob.written")
            end = call(redis_scripts.END_BLOB, (owner, index, blob, *keys), token, name, size)
            await self._session.write(end, doing=doing, wait=wait)
        except StoreError as error:
            # what is half there takes memory, which may be why it was refused
            if isinstance(error.__cause__, ResponseError):
                with suppress(StoreError):
                    await self._session.write(self._dropping(name, len(keys)), doing=doing)
            raise

    async def _commit(self, entry: Entry, manifest: bytes) -> None:
        decoded = manifests.decode(manifest, f"the new manifest of checkpoint {entry.id}")
        token = self._session.own()
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
        async with self._session.turn:
            await self._session.examine()
            await self._put_blob(name, [manifest], wait=False)
            try:
                command = call(redis_scripts.COMMIT, keys, *arguments)
                await self._session.write(command, doing=f"checkpoint {entry.id}", wait=True)
            except LostError:
                # the next one is whole, and builds on nothing
                self._newest = None
                with suppress(StoreError):
                    await self._drop_blobs([name])
                raise

    async def _delete(self, id: int, blobs: Collection[str]) -> None:  # noqa: A002
        async with self._session.turn:
            known = await self._known(id)
            keys = (self._keys.owner, self._keys.checkpoints)
            command = call(redis_scripts.FORGET, keys, self._session.own(), id)
            await self._session.write(command, doing=f"deleting checkpoint {id}")
            reached("retain.manifest")
            await self._drop_blobs([*blobs, *([known.blob.name] if known else [])])

    async def _sweep(self, keep: Collection[str]) -> int:
        async with self._session.turn:
            kept = set(keep)
            await self._check()
            (found,) = await self._session.ask(("HGETALL", self._keys.checkpoints))
            for number, known in _checkpoints(found).items():
                kept.add(known.blob.name)
                try:
                    data = await self._read(known.blob.name, 0, known.blob.size)
                    kept.update(blob.name for blob in manifests.decode(data, f"checkpoint {number}").blobs)
                except DamagedError:
                    continue
                except SnapshotError:
                    return 0
            (index,) = await self._session.ask(("HKEYS", self._keys.index))
            return await self._drop_blobs([name for raw in index if (name := raw.decode()) not in kept])

    async def _drop_blobs(self, names: Sequence[str]) -> int:
        freed = 0
        for begin in range(0, len(names), _BATCH):
            some = names[begin : begin + _BATCH]
            (counts,) = await self._session.ask(("HMGET", self._keys.index, *some))
            dropping = [
                self._dropping(name, int(count)) for name, count in zip(some, counts, strict=True) if count is not None
            ]
            freed += sum(answer[1] for answer in await self._session.write(*dropping, doing="deleting blobs"))
        return freed

    def _dropping(self, name: str, slices: int) -> Command:
        keys = (self._keys.owner, self._keys.index, self._keys.blob(name), *self._keys.slices(name, slices))
        return call(redis_scripts.DROP_BLOB, keys, self._session.own(), name)

    # Reading, in the loop

    async def _get(self, name: str, offset: int, length: int) -> bytes:
        async with self._session.turn:
            return await self._read(name, offset, length)

    async def _read(self, name: str, offset: int, length: int) -> bytes:
        if length < 0:
            (size,) = await self._session.ask(("GET", self._keys.blob(name)))
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
            parts += await self._session.ask(*commands[begin : begin + _BATCH])
        found = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(found) != length:
            raise DamagedError(
                f"blob {name} in {self.address} is missing or cut short: {len(found)} bytes instead of {length}"
            )
        return found

    async def _entries(self) -> list[Entry]:
        async with self._session.turn:
            (found,) = await self._session.ask(("HGETALL", self._keys.checkpoints))
        entries = [
            Entry(number, known.savepoint, known.taken_at, known.blob.size)
            for number, known in _checkpoints(found).items()
        ]
        return sorted(entries, key=lambda entry: entry.id, reverse=True)

    async def _manifest(self, id: int) -> bytes:  # noqa: A002
        async with self._session.turn:
            known = await self._known(id)
            if known is None:
                raise DamagedError(f"there is no checkpoint {id} of job {self._keys.job} in {self.address}")
            return await self._read(known.blob.name, 0, known.blob.size)

    async def _known(self, id: int) -> _Known | None:  # noqa: A002
        (raw,) = await self._session.ask(("HGET", self._keys.checkpoints, id))
        return None if raw is None else _checkpoints([str(id).encode(), raw])[id]

    async def _owner(self) -> Owner | None:
        async with self._session.turn:
            (answer,) = await self._session.ask(("HMGET", self._keys.owner, "record", "token"))
        return owner_of(answer[0] or b"", int(answer[1] or 0))

    async def _jobs(self) -> list[str]:
        found, cursor = set(), b"0"
        while True:
            command = ("SCAN", cursor, "MATCH", Keys.any_checkpoints(), "COUNT", 1000)
            async with self._session.turn:
                ((cursor, keys),) = await self._session.ask(command)
            found |= {Keys.job_of(key.decode()) for key in keys}
            if cursor == b"0":
                return sorted(found)

    # Commands

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop, from any thread."""
        with self._guard:
            if self._closed:
                work.close()
                raise StoreError(f"{self.address} was closed by this process")
            if self._loop is None:
                self._loop = EventLoop(f"checkpoints-{self._keys.job}")
            loop = self._loop
        try:
            return loop.call(work)
        except CancelledError:
            raise StoreError(f"{self.address} was closed meanwhile") from None

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something while nobody else sends anything."""
        async with self._session.turn:
            return await work()

    async def _check(self) -> None:
        """Is the token still the largest?"""
        command = call(redis_scripts.CHECK, [self._keys.owner], self._session.own())
        await self._session.write(command, doing="writing")

    async def _drop(self) -> None:
        await self._session.connection.drop()
        await self._lease.drop()


def _checkpoints(pairs: Sequence[bytes]) -> dict[int, _Known]:
    """What HGETALL says of checkpoints."""
    found = {}
    for number, raw in zip(pairs[::2], pairs[1::2], strict=True):
        try:
            found[int(number)] = decode_json(raw, _Known)
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
