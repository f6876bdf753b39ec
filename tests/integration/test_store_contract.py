"""What every checkpoint store does alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ostinato.state.errors import DamagedError, FencedError, LostError, OccupiedError, StoreError
from ostinato.state.stores import CheckpointStore, StoreOptions, open_store
from ostinato.state.stores.base import Entry
from tests.stored import blob_names, read_checkpoint, write_checkpoint

Opening = Callable[[], CheckpointStore]
MIB = 1 << 20


@pytest.fixture(params=["directory", "redis"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opening]:
    """Opens one and the same store again and again."""
    if request.param == "directory":
        address = str(tmp_path / "checkpoints")
    else:
        address = request.getfixturevalue("redis").address
    with ExitStack() as stack:

        def again() -> CheckpointStore:
            store = open_store(address, job="logins", options=StoreOptions(lease_seconds=3))
            stack.callback(store.close)
            return store

        yield again


@pytest.fixture
def owned(opening: Opening) -> CheckpointStore:
    store = opening()
    store.acquire("the test")
    return store


def test_a_store_that_was_never_used_has_no_checkpoints(opening: Opening) -> None:
    assert opening().entries() == []


def test_reading_a_checkpoint_gives_what_was_written(owned: CheckpointStore, opening: Opening) -> None:
    write_checkpoint(owned, 1, {3: {b"ada": b"1", b"bob": b"2"}, 9: {b"eve": b"3"}})
    assert read_checkpoint(opening(), 1) == {3: {b"ada": b"1", b"bob": b"2"}, 9: {b"eve": b"3"}}


def test_only_owned_key_groups_are_read(owned: CheckpointStore) -> None:
    write_checkpoint(owned, 1, {3: {b"ada": b"1"}, 9: {b"eve": b"3"}})
    assert read_checkpoint(owned, 1, range(4, 10)) == {9: {b"eve": b"3"}}


def test_changes_build_on_what_was_before(owned: CheckpointStore) -> None:
    first = write_checkpoint(owned, 1, {3: {b"ada": b"1", b"bob": b"2"}, 9: {b"eve": b"3"}})
    second = write_checkpoint(owned, 2, {3: {b"ada": b"", b"cyd": b"4"}}, before=first, whole=False)
    write_checkpoint(owned, 3, {9: {b"eve": b""}}, before=second, whole=False)
    assert read_checkpoint(owned, 2) == {3: {b"bob": b"2", b"cyd": b"4"}, 9: {b"eve": b"3"}}
    assert read_checkpoint(owned, 3) == {3: {b"bob": b"2", b"cyd": b"4"}}


def test_entries_are_listed_newest_first(owned: CheckpointStore) -> None:
    for number in (1, 2, 10):
        write_checkpoint(owned, number, {1: {b"k": b"v"}}, savepoint=number == 2)
    found = [(entry.id, entry.savepoint, entry.taken_at - 1_700_000_000_000) for entry in owned.entries()]
    assert found == [(10, False, 10), (2, True, 2), (1, False, 1)]
    assert all(entry.size > 0 for entry in owned.entries())


def test_blobs_of_any_size_and_any_part_of_them(owned: CheckpointStore) -> None:
    data = bytes(range(256)) * (13 * MIB // 256) + b"tail"
    pieces: list[bytes | bytearray | memoryview] = [
        data[:5],
        memoryview(data)[5 : 3 * MIB + 1],
        bytearray(data[3 * MIB + 1 :]),
    ]
    owned.put("large", pieces)
    owned.put("empty", [])
    assert owned.get("large") == data
    assert owned.get("empty") == b""
    for offset, length in [(0, 1), (MIB - 1, 2), (MIB, MIB), (3, 2 * MIB), (len(data) - 4, 4), (7, 0)]:
        assert owned.get("large", offset, length) == data[offset : offset + length]
    assert owned.get("large", len(data) - 4) == b"tail"


def test_a_blob_that_is_missing_or_too_short_is_damage(owned: CheckpointStore) -> None:
    owned.put("short", [b"12345"])
    with pytest.raises(DamagedError, match=r"short.*cut short"):
        owned.get("short", 3, 4)
    with pytest.raises(DamagedError, match=r"nothing.*missing"):
        owned.get("nothing")
    with pytest.raises(DamagedError, match=r"nothing.*missing"):
        owned.get("nothing", 0, 3)


def test_a_checkpoint_that_is_not_there_is_damage(owned: CheckpointStore) -> None:
    with pytest.raises(DamagedError, match="checkpoint 7"):
        owned.manifest(7)


def test_a_name_that_would_lead_elsewhere_is_refused(owned: CheckpointStore) -> None:
    for name in ("../x", "a/b", ".hidden", ""):
        with pytest.raises(ValueError, match="no name for a blob"):
            owned.put(name, [b""])


def test_a_second_owner_is_refused_and_told_who_the_first_is(owned: CheckpointStore, opening: Opening) -> None:
    with pytest.raises(OccupiedError, match=r"in use by process \d+ on \S+ \(the test\), job logins, since 20"):
        opening().acquire("another")
    write_checkpoint(owned, 1, {1: {b"k": b"v"}})


def test_a_released_store_can_be_acquired_and_its_token_is_larger(opening: Opening) -> None:
    tokens = []
    for _ in range(3):
        store = opening()
        tokens.append(store.acquire("the test"))
        store.release()
    assert tokens == sorted(set(tokens))


def test_whoever_joins_writes_in_the_name_of_the_owner(opening: Opening) -> None:
    owner, worker = opening(), opening()
    token = owner.acquire("the test")
    worker.join(token)
    worker.put("of-the-worker", [b"abc"])
    assert owner.get("of-the-worker") == b"abc"


def test_a_store_that_was_opened_for_reading_is_not_written(opening: Opening) -> None:
    store = opening()
    with pytest.raises(StoreError, match="only opened for reading"):
        store.put("name", [b"abc"])


def test_what_an_owner_of_the_past_does_is_refused(opening: Opening) -> None:
    past, worker, present = opening(), opening(), opening()
    worker.join(past.acquire("the past"))
    manifest = write_checkpoint(past, 1, {1: {b"k": b"v"}})
    past.release()
    token = present.acquire("the present")
    with pytest.raises(FencedError, match=r"belongs by now to process \d+ .*the present"):
        worker.put("late", [b"abc"])
    for attempt in (
        lambda: write_checkpoint(worker, 2, {1: {b"k": b"w"}}),
        lambda: worker.delete(1, blob_names(manifest)),
        lambda: worker.sweep([]),
        lambda: worker.join(token - 1),
    ):
        with pytest.raises(FencedError):
            attempt()
    assert [entry.id for entry in present.entries()] == [1]
    assert read_checkpoint(present, 1) == {1: {b"k": b"v"}}


def test_another_job_does_not_touch_it(opening: Opening, owned: CheckpointStore) -> None:
    write_checkpoint(owned, 1, {1: {b"k": b"v"}})
    owned.release()
    if owned.address.startswith("redis"):
        other = open_store(owned.address, job="payments")
        assert other.entries() == []
    else:
        other = open_store(owned.address, job="payments")
        with pytest.raises(OccupiedError, match="has the checkpoints of job logins"):
            other.acquire("the test")
    other.close()


def test_deleting_forgets_a_checkpoint_and_its_blobs(owned: CheckpointStore) -> None:
    first = write_checkpoint(owned, 1, {1: {b"k": b"v"}})
    second = write_checkpoint(owned, 2, {1: {b"k": b"w"}}, before=first, whole=False)
    owned.delete(1, [])
    assert [entry.id for entry in owned.entries()] == [2]
    assert read_checkpoint(owned, 2) == {1: {b"k": b"w"}}
    owned.delete(2, blob_names(second))
    assert owned.entries() == []
    for name in blob_names(second):
        with pytest.raises(DamagedError):
            owned.get(name)
    owned.delete(2, blob_names(second))


def test_sweeping_leaves_what_checkpoints_refer_to(owned: CheckpointStore) -> None:
    write_checkpoint(owned, 1, {1: {b"k": b"v"}})
    write_checkpoint(owned, 2, {1: {b"k": b"w"}}, savepoint=True)
    owned.put("kept", [b"12"])
    owned.put("left-by-a-crash", [bytes(3 * MIB), b"1"])
    assert owned.sweep(["kept"]) == 3 * MIB + 1
    assert owned.sweep(["kept"]) == 0
    assert owned.get("kept") == b"12"
    with pytest.raises(DamagedError):
        owned.get("left-by-a-crash")
    assert read_checkpoint(owned, 1) == {1: {b"k": b"v"}}
    assert read_checkpoint(owned, 2) == {1: {b"k": b"w"}}


def test_a_checkpoint_whose_blobs_are_gone_is_not_committed(owned: CheckpointStore) -> None:
    first = write_checkpoint(owned, 1, {1: {b"k": b"v"}})
    owned.sweep([])
    owned.delete(1, blob_names(first))
    with pytest.raises(LostError, match=blob_names(first)[0]) as caught:
        write_checkpoint(owned, 2, {1: {b"k": b"w"}}, before=first, whole=False)
    assert any(blob_names(first)[0] in name for name in caught.value.names)
    write_checkpoint(owned, 3, {1: {b"k": b"x"}})
    assert read_checkpoint(owned, 3) == {1: {b"k": b"x"}}


def test_bytes_that_are_no_manifest_are_not_committed(owned: CheckpointStore) -> None:
    with pytest.raises(DamagedError, match="manifest"):
        owned.commit(Entry(1, False, 0, 0), b"abc")
    assert owned.entries() == []


def test_many_threads_may_use_it_at_once(owned: CheckpointStore) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                data = bytes([number, turn]) * 100_000
                owned.put(f"{number}-{turn}", [data])
                assert owned.get(f"{number}-{turn}") == data
                owned.entries()
        except Exception as error:  # noqa: BLE001 - the test tells of it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
