"""Checkpoints in a Redis that fails in every way it can."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from ostinato.state.errors import (
    DamagedError,
    DurabilityError,
    LostError,
    OccupiedError,
    SnapshotError,
    StoreError,
)
from ostinato.state.stores import StoreOptions
from ostinato.state.stores.redis import RedisStore
from tests.services import DURABLE, LocalRedis, Proxy, RedisServer, RedisServers
from tests.stored import blob_names, read_checkpoint, write_checkpoint

MIB = 1 << 20
QUICK = StoreOptions(timeout_seconds=10, lease_seconds=2)
Opening = Callable[..., RedisStore]


@pytest.fixture
def opening() -> Iterator[Opening]:
    """Opens stores that are closed with the test."""
    with ExitStack() as stack:

        def opened(address: str, options: StoreOptions = QUICK, job: str = "logins") -> RedisStore:
            store = RedisStore(address, job, options)
            stack.callback(store.close)
            return store

        yield opened


@pytest.fixture
def owned(redis: RedisServer, opening: Opening) -> RedisStore:
    store = opening(redis.address)
    store.acquire("the test")
    return store


class TestDurability:
    """It proves that what it has taken survives, or is refused."""

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ({"appendonly": "no"}, "`appendonly` is no"),
            ({"appendonly": "yes", "appendfsync": "everysec"}, "`appendfsync` is everysec"),
            ({"appendonly": "yes", "appendfsync": "no"}, "`appendfsync` is no"),
            (DURABLE | {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
        ],
    )
    def test_settings_that_promise_nothing_are_refused(
        self, redis_servers: RedisServers, opening: Opening, config: dict[str, str], said: str
    ) -> None:
        server = redis_servers(config)
        with closing(Proxy(server.port)) as proxy:
            proxy.hide_waitaof = True
            with pytest.raises(DurabilityError, match=re.escape(said)) as caught:
                opening(proxy.address).acquire("the test")
            assert "set `" in str(caught.value)
        assert server.ask("KEYS", "*") == []

    def test_a_lowered_promise_is_said_loudly(
        self, redis_servers: RedisServers, opening: Opening, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = redis_servers({"appendonly": "no"})
        store = opening(server.address, StoreOptions(durability="lowered", lease_seconds=2))
        with caplog.at_level(logging.WARNING):
            store.acquire("the test")
            write_checkpoint(store, 1, {1: {b"k": b"v"}})
        (record,) = caplog.records
        assert "DURABILITY LOWERED" in record.getMessage()
        assert "`appendonly` is no" in record.getMessage()
        assert read_checkpoint(store, 1) == {1: {b"k": b"v"}}

    def test_waiting_for_the_disk_is_a_proof(self, redis_servers: RedisServers, opening: Opening) -> None:
        server = redis_servers({"appendonly": "yes", "appendfsync": "everysec"})
        with closing(Proxy(server.port)) as proxy:
            proxy.waitaof = 1
            store = opening(proxy.address)
            store.acquire("the test")
            write_checkpoint(store, 1, {1: {b"k": b"v"}})
            # from now on the disk does not get it
            proxy.waitaof = 0
            with pytest.raises(DurabilityError, match="has not written to its disk"):
                store.put("name", [b"abc"])
            with pytest.raises(DurabilityError, match="has not written to its disk"):
                write_checkpoint(store, 2, {})

    def test_a_server_whose_settings_cannot_be_seen(self, redis_servers: RedisServers, opening: Opening) -> None:
        server = redis_servers(DURABLE)
        server.ask("ACL", "SETUSER", "default", "-config")
        with closing(Proxy(server.port)) as proxy:
            proxy.hide_waitaof = True
            with pytest.raises(DurabilityError, match="CONFIG is forbidden here"):
                opening(proxy.address).acquire("the test")
            proxy.hide_waitaof, proxy.waitaof = False, 1
            store = opening(proxy.address)
            store.acquire("the test")
            write_checkpoint(store, 1, {1: {b"k": b"v"}})

    def test_settings_that_changed_are_noticed_before_a_commit(
        self, redis_servers: RedisServers, opening: Opening
    ) -> None:
        server = redis_servers(DURABLE)
        with closing(Proxy(server.port)) as proxy:
            proxy.hide_waitaof = True
            store = opening(proxy.address)
            store.acquire("the test")
            write_checkpoint(store, 1, {1: {b"k": b"v"}})
            server.ask("CONFIG", "SET", "appendfsync", "everysec")
            with pytest.raises(DurabilityError, match="everysec"):
                write_checkpoint(store, 2, {1: {b"k": b"w"}})
            assert [entry.id for entry in store.entries()] == [1]


class TestAddress:
    """Where it is, and what is said of that."""

    def test_a_password_is_used_and_never_shown(self, redis_servers: RedisServers, opening: Opening) -> None:
        server = redis_servers(DURABLE, password="s3cret")
        store = opening(server.address)
        store.acquire("the test")
        write_checkpoint(store, 1, {1: {b"k": b"v"}})
        assert store.address == f"redis://:***@127.0.0.1:{server.port}/0"
        with pytest.raises(StoreError, match="does not know that user or password") as caught:
            opening(server.address.replace("s3cret", "wr0ng")).acquire("the test")
        assert "wr0ng" not in str(caught.value)
        with pytest.raises(StoreError, match="wants a password"):
            opening(f"redis://127.0.0.1:{server.port}/0").acquire("the test")
        server.kill()
        with pytest.raises(StoreError, match="cannot be reached") as caught:
            store.entries()
        assert "s3cret" not in str(caught.value)
        server.start()

    def test_tls(self, redis_servers: RedisServers, opening: Opening, tmp_path: Path) -> None:
        key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        tls = {
            "tls-key-file": key,
            "tls-cert-file": certificate,
            "tls-ca-cert-file": certificate,
            "tls-auth-clients": "no",
        }
        server = redis_servers(DURABLE | tls, local=True)
        assert server.address.startswith("rediss://")
        store = opening(server.address)
        store.acquire("the test")
        write_checkpoint(store, 1, {1: {b"k": bytes(3 * MIB)}})
        assert read_checkpoint(store, 1) == {1: {b"k": bytes(3 * MIB)}}
        with pytest.raises(StoreError, match=r"cannot be reached.*certificate"):
            opening(server.address.partition("?")[0]).acquire("the test")

    def test_a_socket_in_the_file_system(self, redis_servers: RedisServers, opening: Opening, tmp_path: Path) -> None:
        redis_servers(DURABLE | {"unixsocket": str(tmp_path / "socket")}, local=True)
        store = opening(f"unix://{tmp_path}/socket?db=1")
        store.acquire("the test")
        write_checkpoint(store, 1, {1: {b"k": b"v"}})
        assert read_checkpoint(store, 1) == {1: {b"k": b"v"}}

    def test_nobody_is_there(self, opening: Opening) -> None:
        with pytest.raises(StoreError, match=r"redis://127.0.0.1:1/0 cannot be reached .*is it running"):
            opening("redis://127.0.0.1:1/0").acquire("the test")

    def test_several_jobs_in_one_database(self, redis: RedisServer, opening: Opening) -> None:
        for job in ("logins", "a {strange} name/with:all"):
            store = opening(redis.address, job=job)
            store.acquire("the test")
            write_checkpoint(store, 1, {1: {b"k": job.encode()}}, job=job)
            assert read_checkpoint(store, 1) == {1: {b"k": job.encode()}}
            assert store.sweep([]) == 0
        assert store.jobs() == ["a {strange} name/with:all", "logins"]


def test_keys_have_one_hash_tag_and_values_are_slices(redis: RedisServer, owned: RedisStore) -> None:
    owned.put("large", [bytes(5 * MIB), b"1"])
    write_checkpoint(owned, 1, {1: {b"k": b"v"}})
    keys = redis.ask("KEYS", "*")
    assert all(key.startswith("ostinato:{logins}:") for key in keys)
    strings = [key for key in keys if redis.ask("TYPE", key) == "string"]
    assert max(redis.ask("STRLEN", key) for key in strings) == MIB
    assert [redis.ask("STRLEN", f"ostinato:{{logins}}:blob:large:{number}") for number in range(7)] == [MIB] * 5 + [
        1,
        0,
    ]


def test_what_others_keep_there_is_left_alone(redis: RedisServer, owned: RedisStore) -> None:
    redis.ask("SET", "ostinato", "of somebody else")
    redis.ask("SET", "ostinato:{other}:owner", "of somebody else")
    owned.sweep([])
    manifest = write_checkpoint(owned, 1, {1: {b"k": b"v"}})
    owned.delete(1, blob_names(manifest))
    assert redis.ask("GET", "ostinato") == redis.ask("GET", "ostinato:{other}:owner") == "of somebody else"
    owned.release()
    assert redis.ask("KEYS", "ostinato:{logins}:*") == ["ostinato:{logins}:owner"]


def test_a_commit_may_be_repeated(owned: RedisStore) -> None:
    manifest = write_checkpoint(owned, 1, {1: {b"k": b"v"}})
    entry = owned.entries()[0]
    owned.commit(entry, owned.manifest(1))
    assert [entry.id for entry in owned.entries()] == [1]
    assert read_checkpoint(owned, 1) == {1: {b"k": b"v"}}
    assert manifest.id == 1


class TestDamage:
    """Bytes that are not what was written: the checkpoint is named, and never taken for whole."""

    def blob(self, store: RedisStore) -> str:
        write_checkpoint(store, 1, {4: {b"old": b"value"}})
        (name,) = blob_names(write_checkpoint(store, 2, {5: {b"k": bytes(range(256)) * 8}}))
        return f"ostinato:{{logins}}:blob:{name}:0"

    def test_truncated(self, redis: RedisServer, owned: RedisStore) -> None:
        key = self.blob(owned)
        redis.ask("EVAL", "redis.call('SET', KEYS[1], string.sub(redis.call('GET', KEYS[1]), 1, -2))", 1, key)
        with pytest.raises(DamagedError, match=r"blob 2-.* is missing or cut short"):
            read_checkpoint(owned, 2)
        assert read_checkpoint(owned, 1) == {4: {b"old": b"value"}}

    def test_a_bit_flipped(self, redis: RedisServer, owned: RedisStore) -> None:
        redis.ask("SETBIT", self.blob(owned), 333, 1)
        redis.ask("SETBIT", self.blob(owned), 334, 1)
        flipped = self.blob(owned)
        bit = redis.ask("GETBIT", flipped, 300)
        redis.ask("SETBIT", flipped, 300, 1 - bit)
        with pytest.raises(DamagedError, match=r"key group 5 of operator match .*checksum"):
            read_checkpoint(owned, 2)

    def test_missing(self, redis: RedisServer, owned: RedisStore) -> None:
        redis.ask("DEL", self.blob(owned))
        with pytest.raises(DamagedError, match="missing"):
            read_checkpoint(owned, 2)

    def manifest_key(self, redis: RedisServer, number: int) -> str:
        (key,) = redis.ask("KEYS", f"ostinato:{{logins}}:blob:manifest-{number}-*:0")
        assert isinstance(key, str)
        return key

    def test_a_manifest_bit_flipped(self, redis: RedisServer, owned: RedisStore) -> None:
        write_checkpoint(owned, 2, {5: {b"k": b"v"}})
        key = self.manifest_key(redis, 2)
        redis.ask("SETBIT", key, 200, 1 - redis.ask("GETBIT", key, 200))
        with pytest.raises(DamagedError, match="checkpoint 2 is damaged"):
            read_checkpoint(owned, 2)
        assert [entry.id for entry in owned.entries()] == [2]

    def test_a_manifest_missing(self, redis: RedisServer, owned: RedisStore) -> None:
        write_checkpoint(owned, 2, {5: {b"k": b"v"}})
        redis.ask("DEL", self.manifest_key(redis, 2))
        with pytest.raises(DamagedError, match="manifest-2"):
            read_checkpoint(owned, 2)

    def test_of_a_later_release(self, redis: RedisServer, owned: RedisStore) -> None:
        from ostinato.state.envelope import seal

        write_checkpoint(owned, 2, {5: {b"k": b"v"}})
        later = seal(b"OMAN", 9, b"what will be")
        owned.put("later", [later])
        blob = f'{{"savepoint":false,"taken_at":0,"blob":["later",{len(later)},0]}}'
        redis.ask("HSET", "ostinato:{logins}:checkpoints", 3, blob)
        with pytest.raises(SnapshotError, match="checkpoint 3 has format 9; this release reads formats 1 to 1"):
            read_checkpoint(owned, 3)
        assert owned.sweep([]) == 0, "nobody knows what it refers to"


class TestFaults:
    def test_killed_and_restarted(self, redis_servers: RedisServers, opening: Opening) -> None:
        server = redis_servers()
        store = opening(server.address)
        store.acquire("the test")
        first = write_checkpoint(store, 1, {1: {b"k": b"v"}})
        server.kill()
        with pytest.raises(StoreError, match="cannot be reached"):
            write_checkpoint(store, 2, {1: {b"k": b"w"}})
        server.start()
        assert read_checkpoint(store, 1) == {1: {b"k": b"v"}}
        write_checkpoint(store, 3, {2: {b"k": b"x"}}, before=first, whole=False)
        assert read_checkpoint(store, 3) == {1: {b"k": b"v"}, 2: {b"k": b"x"}}

    @pytest.mark.parametrize("shortly", [True, False], ids=["at once", "after a heartbeat"])
    def test_wiped(self, redis: RedisServer, owned: RedisStore, opening: Opening, shortly: bool) -> None:
        worker = opening(redis.address)
        first = write_checkpoint(owned, 1, {1: {b"k": b"v"}})
        redis.ask("FLUSHALL")
        if shortly:
            with pytest.raises(LostError, match="has lost the record of its owner"):
                owned.put("name", [b"abc"])
        else:
            time.sleep(QUICK.lease_seconds)
        with pytest.raises(LostError, match="has lost checkpoint 1, blob") as caught:
            write_checkpoint(owned, 2, {2: {b"k": b"w"}}, before=first, whole=False)
        assert f"blob {blob_names(first)[0]}" in caught.value.names
        write_checkpoint(owned, 3, {1: {b"k": b"v"}})
        assert read_checkpoint(owned, 3) == {1: {b"k": b"v"}}
        with pytest.raises(OccupiedError):
            worker.acquire("another")

    def test_wiped_and_a_whole_checkpoint_is_taken_all_the_same(self, redis: RedisServer, owned: RedisStore) -> None:
        write_checkpoint(owned, 1, {1: {b"k": b"v"}})
        redis.ask("FLUSHALL")
        time.sleep(QUICK.lease_seconds)
        # even one that refers to nothing older: somebody may count on the one that is gone
        with pytest.raises(LostError, match="checkpoint 1"):
            write_checkpoint(owned, 2, {1: {b"k": b"w"}})
        write_checkpoint(owned, 3, {1: {b"k": b"w"}})

    def test_a_worker_notices_that_it_was_wiped(self, redis: RedisServer, owned: RedisStore, opening: Opening) -> None:
        worker = opening(redis.address)
        worker.join(token_of(owned))
        redis.ask("FLUSHALL")
        with pytest.raises(LostError, match="the record of its owner"):
            worker.put("name", [b"abc"])
        time.sleep(QUICK.lease_seconds)
        worker.put("name", [b"abc"])

    def test_fallen_back_to_an_earlier_time(
        self, redis_servers: RedisServers, opening: Opening, tmp_path: Path
    ) -> None:
        server = redis_servers(local=True)
        assert isinstance(server, LocalRedis)
        store = opening(server.address)
        store.acquire("the first")
        first = write_checkpoint(store, 1, {1: {b"k": b"v"}})
        server.kill()
        shutil.copytree(server.folder, tmp_path / "earlier")
        server.start()
        second = write_checkpoint(store, 2, {2: {b"k": b"w"}}, before=first, whole=False)
        server.kill()
        shutil.rmtree(server.folder)
        shutil.copytree(tmp_path / "earlier", server.folder)
        server.start()
        with pytest.raises(LostError, match="has lost checkpoint 2"):
            write_checkpoint(store, 3, {3: {b"k": b"x"}}, before=second, whole=False)

    def test_out_of_memory(self, redis_servers: RedisServers, opening: Opening) -> None:
        server = redis_servers(DURABLE | {"maxmemory": "24mb"})
        store = opening(server.address)
        store.acquire("the test")
        first = write_checkpoint(store, 1, {1: {b"k": b"v"}})
        with pytest.raises(StoreError, match="refuses blob large: its memory is used up: raise maxmemory"):
            store.put("large", [bytes(64 * MIB)])
        # what was half there is not, so that others may go on
        assert server.ask("KEYS", "*blob:large*") == []
        second = write_checkpoint(store, 2, {2: {b"k": b"w"}}, before=first, whole=False)
        server.ask("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(StoreError, match="raise maxmemory"):
            write_checkpoint(store, 3, {2: {b"k": b"x"}})
        time.sleep(QUICK.lease_seconds * 1.5)
        with pytest.raises(OccupiedError):
            opening(server.address).acquire("another")
        store.delete(1, [])
        assert read_checkpoint(store, 2) == {1: {b"k": b"v"}, 2: {b"k": b"w"}}
        server.ask("CONFIG", "SET", "maxmemory", "64mb")
        write_checkpoint(store, 4, {2: {b"k": b"x"}}, before=second, whole=False)

    def test_two_seconds_for_every_operation(self, redis: RedisServer, redis_proxy: Proxy, opening: Opening) -> None:
        store = opening(redis_proxy.address, StoreOptions(lease_seconds=3))
        store.acquire("the test")
        redis_proxy.delay_seconds = 2
        first = write_checkpoint(store, 1, {1: {b"k": bytes(10 * MIB)}})
        # whose lease is shorter than that took is the owner still
        with pytest.raises(OccupiedError):
            opening(redis.address).acquire("another")
        assert read_checkpoint(store, 1) == {1: {b"k": bytes(10 * MIB)}}
        assert first.id == 1
        redis_proxy.delay_seconds = 0

    def test_it_answers_no_more(self, redis_servers: RedisServers, opening: Opening) -> None:
        server = redis_servers()
        store = opening(server.address, StoreOptions(timeout_seconds=0.5, lease_seconds=2))
        store.acquire("the test")
        write_checkpoint(store, 1, {1: {b"k": b"v"}})
        server.pause()
        with pytest.raises(StoreError, match=r"did not answer within 0\.5 s"):
            store.put("name", [b"abc"])
        server.go_on()
        # the late answers are nobody's
        assert [entry.id for entry in store.entries()] == [1]
        assert read_checkpoint(store, 1) == {1: {b"k": b"v"}}
        store.put("name", [b"abc"])

    def test_interrupted(self, redis_proxy: Proxy, opening: Opening) -> None:
        store = opening(redis_proxy.address)
        store.acquire("the test")
        names = [f"blob-{number}" for number in range(10)]
        for name in names:
            store.put(name, [name.encode()])
        redis_proxy.delay_seconds = 0.3
        for pause in (0.05, 0.15, 0.29, 0.31, 0.45, 0.61):
            before = signal.signal(signal.SIGALRM, _interrupt)
            signal.setitimer(signal.ITIMER_REAL, pause)
            try:
                with pytest.raises(KeyboardInterrupt):
                    read_all(store, names)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
            redis_proxy.delay_seconds = 0
            assert read_all(store, names) == [name.encode() for name in names]
            redis_proxy.delay_seconds = 0.3
        redis_proxy.delay_seconds = 0

    def test_cut_connections_are_made_anew(self, redis_proxy: Proxy, opening: Opening) -> None:
        store = opening(redis_proxy.address)
        store.acquire("the test")
        write_checkpoint(store, 1, {1: {b"k": b"v"}})
        redis_proxy.delay_seconds = 0.4
        cutting = threading.Timer(0.2, redis_proxy.cut)
        cutting.start()
        with pytest.raises(StoreError, match="cannot be reached"):
            store.put("name", [b"abc"])
        cutting.join()
        redis_proxy.delay_seconds = 0
        redis_proxy.cut()
        assert read_checkpoint(store, 1) == {1: {b"k": b"v"}}

    def test_closing_does_not_wait_for_one_that_answers_no_more(
        self, redis_servers: RedisServers, opening: Opening
    ) -> None:
        server = redis_servers()
        store = opening(server.address)
        store.acquire("the test")
        server.pause()
        failures: list[StoreError] = []

        def put() -> None:
            try:
                store.put("name", [b"abc"])
            except StoreError as error:
                failures.append(error)

        thread = threading.Thread(target=put)
        thread.start()
        time.sleep(0.2)
        began = time.monotonic()
        store.close()
        thread.join()
        assert time.monotonic() - began < 8
        assert [str(failure) for failure in failures] == [f"{server.address} was closed meanwhile"]
        server.go_on()

    def test_closed(self, redis_proxy: Proxy, opening: Opening) -> None:
        store = opening(redis_proxy.address)
        store.acquire("the test")
        store.close()
        with pytest.raises(StoreError, match="was closed"):
            store.entries()


def read_all(store: RedisStore, names: Sequence[str]) -> list[bytes]:
    return [store.get(name) for name in names]


def token_of(store: RedisStore) -> int:
    owner = store.owner()
    assert owner is not None
    return owner.token


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


OWNER = """
import sys, time
from ostinato.state.errors import StateError
from ostinato.state.stores import StoreOptions, open_store
store = open_store(sys.argv[1], job="logins", options=StoreOptions(lease_seconds=float(sys.argv[2])))
store.acquire("the first")
print("owned", flush=True)
for line in sys.stdin:
    try:
        store.put(line.strip(), [b"abc"])
        print("written", flush=True)
    except StateError as error:
        print(type(error).__name__, flush=True)
store.close()
"""


class Owner:
    """A process that owns the store, and writes when it is told to."""

    def __init__(self, address: str, lease_seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, address, str(lease_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "owned"

    def write(self, name: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        for end in (self.process.stdin, self.process.stdout):
            assert end is not None
            end.close()
        self.process.kill()
        self.process.wait()


class TestOwnership:
    def test_an_owner_that_was_frozen_writes_no_more(self, redis: RedisServer, opening: Opening) -> None:
        with closing(Owner(redis.address, 1.5)) as zombie:
            assert zombie.write("before") == "written"
            zombie.process.send_signal(signal.SIGSTOP)
            store = opening(redis.address)
            began = time.monotonic()
            store.acquire("the second")
            assert time.monotonic() - began < 3
            zombie.process.send_signal(signal.SIGCONT)
            assert zombie.write("after") == "FencedError"
            with pytest.raises(DamagedError):
                store.get("after")
            store.put("mine", [b"abc"])

    def test_a_dead_owner_of_this_machine_is_not_waited_for(self, redis: RedisServer, opening: Opening) -> None:
        with closing(Owner(redis.address, 600)) as owner:
            owner.process.kill()
            owner.process.wait()
            began = time.monotonic()
            opening(redis.address).acquire("the second")
            assert time.monotonic() - began < 2

    def test_a_dead_owner_of_another_machine_is_waited_for(self, redis: RedisServer, opening: Opening) -> None:
        with closing(Owner(redis.address, 2)) as owner:
            key = "ostinato:{logins}:owner"
            record = redis.ask("HGET", key, "record")
            elsewhere = re.sub(r'"process":"[^/]*', '"process":"00000000-another-machine', record)
            redis.ask("HSET", key, "record", elsewhere)
            owner.process.kill()
            owner.process.wait()
            began = time.monotonic()
            opening(redis.address).acquire("the second")
            assert 0.5 < time.monotonic() - began < 4

    def test_the_lease_outlasts_its_time_as_long_as_the_owner_lives(
        self, redis: RedisServer, owned: RedisStore, opening: Opening
    ) -> None:
        time.sleep(1.5 * QUICK.lease_seconds)
        with pytest.raises(OccupiedError, match="the test"):
            opening(redis.address).acquire("another")
        owned.put("name", [b"abc"])

    def test_giving_it_up_does_not_wait_for_a_refresh_that_swallows_its_end(
        self, redis: RedisServer, opening: Opening, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As clients do now and then. Seen to fail when the lease went on being refreshed: the process never ended."""
        store = opening(redis.address, QUICK)
        refreshing = threading.Event()

        async def deaf(_: object) -> None:
            refreshing.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

        monkeypatch.setattr(store._lease, "_refresh", deaf)
        store.acquire("the test")
        assert refreshing.wait(10)
        closing_it = threading.Thread(target=store.close, daemon=True)
        closing_it.start()
        closing_it.join(10)
        assert not closing_it.is_alive()

    def test_an_acquisition_whose_answer_was_lost_is_no_other_owner(
        self, redis: RedisServer, redis_proxy: Proxy, opening: Opening
    ) -> None:
        store = opening(redis_proxy.address, StoreOptions(lease_seconds=8))
        redis_proxy.lose_answer_to = b"least token"
        with pytest.raises(StoreError, match="cannot be reached"):
            store.acquire("the test")
        assert redis.ask("EXISTS", "ostinato:{logins}:lease") == 1
        redis_proxy.lose_answer_to = b""
        began = time.monotonic()
        store.acquire("the test")
        assert time.monotonic() - began < 4

    def test_a_commit_whose_answer_was_lost_does_no_harm(self, redis_proxy: Proxy, opening: Opening) -> None:
        store = opening(redis_proxy.address)
        store.acquire("the test")
        first = write_checkpoint(store, 1, {1: {b"k": b"v"}})
        redis_proxy.lose_answer_to = b"what there is to know"
        with pytest.raises(StoreError, match="cannot be reached"):
            write_checkpoint(store, 2, {1: {b"k": b"w"}}, before=first, whole=False)
        redis_proxy.lose_answer_to = b""
        write_checkpoint(store, 3, {1: {b"k": b"x"}})
        assert read_checkpoint(store, 3) == {1: {b"k": b"x"}}
        # it came through, and is as good as any
        assert read_checkpoint(store, 2) == {1: {b"k": b"w"}}


class TestCluster:
    """All keys of a job are on one node, whichever that is."""

    def test_one_node(self, redis_servers: RedisServers, opening: Opening) -> None:
        server = redis_servers(DURABLE | {"cluster-enabled": "yes"})
        server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        self._wait(server)
        store = opening(server.address)
        store.acquire("the test")
        first = write_checkpoint(store, 1, {1: {b"k": bytes(2 * MIB)}})
        write_checkpoint(store, 2, {2: {b"k": b"w"}}, before=first, whole=False)
        assert read_checkpoint(store, 2) == {1: {b"k": bytes(2 * MIB)}, 2: {b"k": b"w"}}
        store.delete(1, [])
        store.sweep([])

    def test_the_node_that_was_asked_sends_us_to_the_right_one(
        self, redis_servers: RedisServers, opening: Opening
    ) -> None:
        left, right = (redis_servers(DURABLE | {"cluster-enabled": "yes"}, local=True) for _ in range(2))
        left.ask("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        right.ask("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        left.ask("CLUSTER", "MEET", "127.0.0.1", right.port)
        self._wait(left)
        self._wait(right)
        slot = left.ask("CLUSTER", "KEYSLOT", "ostinato:{logins}:owner")
        wrong = right if slot <= 8191 else left
        store = opening(wrong.address)
        store.acquire("the test")
        write_checkpoint(store, 1, {1: {b"k": b"v"}})
        assert read_checkpoint(opening(wrong.address), 1) == {1: {b"k": b"v"}}

    def _wait(self, server: RedisServer) -> None:
        until = time.monotonic() + 20
        while "cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
            assert time.monotonic() < until
            time.sleep(0.05)
