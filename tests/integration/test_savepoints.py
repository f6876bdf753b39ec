"""Savepoints as users name them, from one store into another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ostinato.state import manifest as manifests
from ostinato.state import savepoints
from ostinato.state.errors import DamagedError, OccupiedError, SnapshotError, StoreError
from ostinato.state.savepoints import Place
from ostinato.state.stores import open_store
from ostinato.state.stores.directory import DirectoryStore
from tests.services import RedisServer
from tests.stored import EXAMPLE, State, blob_names, read_checkpoint, write_checkpoint, write_example


@pytest.fixture(params=["directory", "redis"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store with the example in it."""
    is_redis = request.param == "redis"
    address = str(request.getfixturevalue("redis").address) if is_redis else str(tmp_path / "source")
    fill(address)
    return address


@pytest.fixture
def resolved() -> Iterator[Resolving]:
    with ExitStack() as stack:
        yield Resolving(stack)


class Resolving:
    """Resolves addresses; stores are closed with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, address: str, job: str = "") -> Place:
        place = savepoints.resolve(address, job=job)
        self._stack.callback(place.store.close)
        return place

    def state(self, address: str, job: str = "") -> State:
        place = self(address, job)
        return read_checkpoint(place.store, place.chosen())


def fill(address: str, job: str = "logins") -> None:
    with closing(open_store(address, job=job)) as store:
        store.acquire("the test")
        if job == "logins":
            write_example(store)
        else:
            write_checkpoint(store, 1, {1: {b"k": job.encode()}}, job=job)


@pytest.mark.parametrize(
    ("name", "number"),
    [("", 4), ("#4", 4), ("#sp-4", 4), ("#3", 3), ("#chk-2", 2), ("#logins/sp-4", 4)],
)
def test_names(source: str, resolved: Resolving, name: str, number: int) -> None:
    assert resolved.state(source + name) == EXAMPLE[number]


def test_names_of_folders(tmp_path: Path, resolved: Resolving) -> None:
    source = tmp_path / "source"
    fill(str(source))
    assert resolved.state(f"{source}/sp-4") == EXAMPLE[4]
    assert resolved.state(f"file:{source}/chk-2") == EXAMPLE[2]
    shutil.move(source / "sp-4", tmp_path / "what #2 was")
    assert resolved.state(f"{tmp_path}/what #2 was") == EXAMPLE[4]
    assert resolved.state(str(source)) == EXAMPLE[3]


def test_what_is_not_there_is_said(source: str, resolved: Resolving, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"there is no checkpoint 9 in .*; there are: sp-4, chk-3, chk-2, chk-1"):
        resolved(f"{source}#9").chosen()
    with pytest.raises(SnapshotError, match="there is no directory"):
        resolved(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SnapshotError, match="has no checkpoints in it"):
        resolved(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="is to be like sp-3"):
        resolved(f"{source}#yesterday")


def test_a_redis_with_several_jobs_wants_a_name(redis: RedisServer, resolved: Resolving) -> None:
    with pytest.raises(SnapshotError, match="has no checkpoints in it"):
        resolved(redis.address)
    fill(redis.address)
    fill(redis.address, "payments")
    with pytest.raises(SnapshotError, match=r"of several jobs \(logins, payments\).*#logins/sp-1"):
        resolved(redis.address)
    assert resolved.state(f"{redis.address}#payments/chk-1") == {1: {b"k": b"payments"}}
    assert resolved.state(redis.address, job="payments") == {1: {b"k": b"payments"}}
    assert [place.job for place in places(redis.address, resolved)] == ["logins", "payments"]


def places(address: str, resolved: Resolving) -> list[Place]:
    found = savepoints.places(address)
    for place in found:
        resolved._stack.callback(place.store.close)
    return found


@pytest.mark.parametrize("target", ["directory", "redis"])
@pytest.mark.parametrize("number", [2, 3, 4])
def test_copied_from_store_to_store(
    source: str, resolved: Resolving, tmp_path: Path, redis: RedisServer, target: str, number: int
) -> None:
    to = str(tmp_path / "target") if target == "directory" else redis.address.replace("/0", "/1")
    place = resolved(f"{source}#{number}")
    address = savepoints.copy(place.store, number, to)
    assert address == (f"{to}/sp-1" if target == "directory" else f"{to}#logins/sp-1")
    erase(source, redis)
    assert resolved.state(address) == EXAMPLE[number]
    copied = savepoints.read(resolved(address))
    assert (copied.id, copied.savepoint, copied.taken_at) == (1, True, 1_700_000_000_000 + number)
    assert savepoints.copy(resolved(address).store, 1, to).endswith("sp-2")


def erase(source: str, redis: RedisServer) -> None:
    if source.startswith("redis"):
        redis.ask("FLUSHDB")
    else:
        shutil.rmtree(source)


def test_a_copy_holds_only_what_is_needed(tmp_path: Path) -> None:
    with closing(DirectoryStore(tmp_path / "source", "logins")) as store:
        store.acquire("the test")
        first = write_checkpoint(store, 1, {1: {b"k": random(100_000)}, 2: {b"k": b"v"}})
        write_checkpoint(store, 2, {1: {b"k": b"small"}}, before=first)
        assert savepoints.copy(store, 2, str(tmp_path / "target")) == f"{tmp_path}/target/sp-1"
    held = sum(path.stat().st_size for path in (tmp_path / "target").rglob("*") if path.is_file())
    assert held < 2000


def random(size: int) -> bytes:
    import random as chance

    return chance.Random(1).randbytes(size)


def test_damage_is_not_copied(tmp_path: Path) -> None:
    with closing(DirectoryStore(tmp_path / "source", "logins")) as store:
        store.acquire("the test")
        (name,) = blob_names(write_checkpoint(store, 1, {1: {b"k": random(1000)}}))
        blob = tmp_path / "source" / "blobs" / name
        data = bytearray(blob.read_bytes())
        data[500] ^= 1
        blob.write_bytes(data)
        with pytest.raises(DamagedError, match="key group 1 of operator match of checkpoint 1"):
            savepoints.copy(store, 1, str(tmp_path / "target"))
    assert list((tmp_path / "target").iterdir()) == []


def test_a_store_that_a_job_owns_is_not_written(tmp_path: Path, redis: RedisServer, source: str) -> None:
    for target in (str(tmp_path / "target"), redis.address.replace("/0", "/2")):
        with closing(open_store(target, job="logins")) as running, closing(open_store(source, job="logins")) as store:
            running.acquire("a job")
            with pytest.raises(OccupiedError, match="a job"):
                savepoints.copy(store, 3, target)


def test_a_savepoint_is_no_place_for_another(tmp_path: Path) -> None:
    fill(str(tmp_path / "source"))
    store = DirectoryStore(tmp_path / "source", "logins")
    with pytest.raises(StoreError, match="is a savepoint: give the directory"):
        savepoints.copy(store, 3, str(tmp_path / "source" / "sp-4"))


def test_deleted(source: str, resolved: Resolving) -> None:
    with pytest.raises(SnapshotError, match="is a checkpoint, which its job deletes by itself"):
        savepoints.delete(resolved(f"{source}#3"))
    savepoints.delete(resolved(f"{source}#sp-4"))
    store = resolved(source).store
    assert [entry.id for entry in store.entries()] == [3, 2, 1]
    assert read_checkpoint(store, 3) == EXAMPLE[3]


def test_deleting_keeps_what_checkpoints_share_with_it(source: str, resolved: Resolving) -> None:
    with closing(open_store(source, job="logins")) as store:
        store.acquire("the test")
        savepoint = manifests.decode(store.manifest(4), "savepoint 4")
        write_checkpoint(store, 5, {5: {b"k": b"v"}}, before=savepoint, whole=False)
    savepoints.delete(resolved(f"{source}#4"))
    assert resolved.state(f"{source}#5") == {**EXAMPLE[4], 5: {b"k": b"v"}}
