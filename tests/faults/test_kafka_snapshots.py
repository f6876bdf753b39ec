"""Snapshots of a job between topics, and the input that they belong to, are wiped, rolled back, damaged, or away."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from ostinato.server import exits
from ostinato.state import manifest as manifests
from ostinato.state.stores import open_store
from ostinato.state.stores.redis_scripts import Keys
from tests.faults.checker import Row
from tests.faults.conftest import StartBetween, Trial
from tests.faults.driver import Job, kill
from tests.faults.kafka_driver import Between, Options
from tests.faults.kafka_workload import lay_out_offline, rows_of
from tests.faults.workload import Shape
from tests.kafka_clients import Kafka
from tests.services import Proxy, RedisServer, RedisServers

pytestmark = [pytest.mark.timeout(240)]

SHAPE = Shape(events=3_000)
PARTITIONS = 2
REBUILT = "the state is rebuilt from older input"


class Storage(Protocol):
    """Where the snapshots of a job are. `address` is what `Options.store` takes."""

    address: str

    def wipe(self, job: Between) -> None:
        """Nothing is there any more, of any partition."""

    def save(self, job: Between) -> None:
        """Remember all of it, as a backup does."""

    def roll_back(self, job: Between) -> None:
        """Have all of it as it was when it was saved. It is away meanwhile."""

    def lose(self, job: Between, what: str, partition: int) -> None:
        """The `manifest`, or a `blob`, of the snapshot that the committed offset names is gone."""

    def flip(self, job: Between, what: str, partition: int) -> None:
        """The same has wrong bits."""


def flipped(content: bytes) -> bytes:
    """One bit in each 16 bytes: not all that a blob holds is still needed."""
    changed = bytearray(content)
    for at in range(0, len(changed), 16):
        changed[at] ^= 0x10
    return bytes(changed)


def blob_of(job: Between, address: str, partition: int) -> str:
    """A blob that the committed snapshot of a partition is made of."""
    with closing(open_store(address, job=f"{job.name}.{partition}")) as store:
        data = store.manifest(job.positions()[partition].snapshot)
    return max(manifests.decode(data, "it").blobs, key=lambda blob: blob.size).name


class InDirectory:
    address = ""

    def wipe(self, job: Between) -> None:
        self._folder(job).rename(job.folder / "wiped")

    def save(self, job: Between) -> None:
        # what goes away meanwhile is not in the copy
        subprocess.run(["cp", "-a", self._folder(job), job.folder / "saved"], capture_output=True, check=False)

    def roll_back(self, job: Between) -> None:
        self._folder(job).rename(job.folder / "gone")
        (job.folder / "saved").rename(self._folder(job))

    def lose(self, job: Between, what: str, partition: int) -> None:
        self._path(job, what, partition).unlink()

    def flip(self, job: Between, what: str, partition: int) -> None:
        path = self._path(job, what, partition)
        path.write_bytes(flipped(path.read_bytes()))

    def _folder(self, job: Between) -> Path:
        return job.folder / "checkpoints"

    def _path(self, job: Between, what: str, partition: int) -> Path:
        own = self._folder(job) / f"partition-{partition}"
        if what == "manifest":
            return own / f"chk-{job.positions()[partition].snapshot}" / "manifest"
        return own / "blobs" / blob_of(job, str(own), partition)


class InRedis:
    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.address = server.address

    def wipe(self, job: Between) -> None:
        self.server.ask("FLUSHALL")

    def save(self, job: Between) -> None:
        self.server.stop()
        shutil.copytree(self._folder, job.folder / "saved")
        self.server.start()

    def roll_back(self, job: Between) -> None:
        self.server.kill()
        shutil.rmtree(self._folder)
        shutil.copytree(job.folder / "saved", self._folder)
        self.server.start()

    def lose(self, job: Between, what: str, partition: int) -> None:
        self._change(job, what, partition, None)

    def flip(self, job: Between, what: str, partition: int) -> None:
        self._change(job, what, partition, flipped)

    @property
    def _folder(self) -> Path:
        folder: Path = self.server.folder  # type: ignore[attr-defined]  # it is a process of this machine
        return folder

    def _change(self, job: Between, what: str, partition: int, change: Any) -> None:
        from redis import Redis

        keys = Keys(f"{job.name}.{partition}")
        id_ = job.positions()[partition].snapshot
        with closing(Redis.from_url(self.address, protocol=2)) as client:
            if what == "manifest":
                held: Any = client.hget(keys.checkpoints, str(id_))
                assert held is not None
                if change is None:
                    client.hdel(keys.checkpoints, str(id_))
                else:
                    client.hset(keys.checkpoints, str(id_), change(held))
                return
            newest = blob_of(job, self.address, partition)
            (first,) = keys.slices(newest, 1)
            held = client.get(first)
            assert held is not None
            if change is None:
                client.delete(first)
            else:
                client.set(first, change(held))


@pytest.fixture(params=["Redis", "directory"])
def storage(request: pytest.FixtureRequest, redis_servers: RedisServers) -> Storage:
    return InRedis(redis_servers(local=True)) if request.param == "Redis" else InDirectory()


def options(storage: Storage, *arguments: str, source: Mapping[str, Any] | None = None) -> Options:
    return Options(partitions=PARTITIONS, per_second=120, source=source, store=storage.address, arguments=arguments)


def name_of(storage: Storage) -> str:
    return "snapshots in Redis" if storage.address else "snapshots in a directory"


@pytest.mark.faults
@pytest.mark.parametrize("running", [True, False], ids=["running", "down"])
def test_wiped(between_topics: StartBetween, kafka: Kafka, trial: Trial, storage: Storage, *, running: bool) -> None:
    """Protects: an offset without its snapshot is a lost one, and never a job that has just begun."""
    trial.on(f"wiped while the job {'runs' if running else 'is down'}", name_of(storage))
    job = between_topics(kafka, SHAPE, options(storage))
    process = job.start()
    job.wait_until_running()
    job.wait_for_commits(200)
    if running:
        storage.wipe(job)
    else:
        process.kill()
        storage.wipe(job)
        job.start()
    job.wait_for_commits(200)
    job.finish()
    assert REBUILT in job.said or running
    trial.judge_topics(job)


@pytest.mark.faults
@pytest.mark.parametrize("running", [True, False], ids=["running", "down"])
def test_rolled_back_to_an_older_copy(
    between_topics: StartBetween, kafka: Kafka, trial: Trial, storage: Storage, *, running: bool
) -> None:
    """Protects: the snapshot that counts is the one that Kafka names, and not the newest there is; a writer whose token
    the store does not know is refused."""
    trial.on(f"rolled back while the job {'runs' if running else 'is down'}", name_of(storage))
    job = between_topics(kafka, SHAPE, options(storage))
    process = job.start()
    job.wait_until_running()
    job.wait_for_commits(200)
    storage.save(job)
    job.wait_for_commits(200)
    if running:
        storage.roll_back(job)
    else:
        process.kill()
        storage.roll_back(job)
        job.start()
    job.wait_for_commits(100)
    job.finish()
    assert REBUILT in job.said or running
    trial.judge_topics(job)


DAMAGES = [
    pytest.param("manifest", "lost"),
    pytest.param("blob", "lost", marks=pytest.mark.faults),
    pytest.param("blob", "bits flipped", marks=pytest.mark.faults),
]


@pytest.mark.parametrize(("what", "how"), DAMAGES)
def test_the_committed_snapshot_is_damaged(
    between_topics: StartBetween, kafka: Kafka, trial: Trial, storage: Storage, what: str, how: str
) -> None:
    """Protects: the checksums of manifests and blobs; the older snapshot that is kept; with --on-lost-snapshot fail the
    job ends with what is lost, and has written nothing."""
    trial.on(f"{what} {how}", name_of(storage))
    job = between_topics(kafka, SHAPE, options(storage))
    process = job.start()
    job.wait_until_running()
    job.wait_for_commits(200)
    process.kill()
    damage = storage.lose if how == "lost" else storage.flip
    for partition in range(PARTITIONS):
        damage(job, what, partition)
    before = job.offsets()
    refusing = job.start(1, "", "--on-lost-snapshot", "fail")
    assert refusing.wait() == exits.STATE, refusing.said
    assert "allow with --on-lost-snapshot rebuild" in refusing.said
    assert re.search(r"partition \d: ", refusing.said)
    assert job.offsets() == before
    rebuilding = job.start()
    job.wait_for_commits(200)
    job.finish()
    assert rebuilding.said.count(REBUILT) == PARTITIONS
    assert rebuilding.said.count("the state has been rebuilt") == PARTITIONS
    trial.judge_topics(job)


@pytest.mark.faults
def test_lost_with_the_input_that_it_was_made_of(
    between_topics: StartBetween, kafka: Kafka, trial: Trial, storage: Storage
) -> None:
    """Protects: what cannot be made again is refused by name, and nothing is lost by that: with the snapshots put back
    the job goes on."""
    trial.on("wiped, and older input deleted", name_of(storage))
    job = between_topics(kafka, SHAPE, options(storage))
    process = job.start()
    job.wait_until_running()
    job.wait_for_commits(200)
    process.kill()
    kept = job.offsets()
    storage.save(job)
    storage.wipe(job)
    kafka.delete_records(job.input, dict.fromkeys(range(PARTITIONS), 20))
    for _ in range(2):
        refusing = job.start()
        assert refusing.wait() == exits.STATE, refusing.said
        assert f"it cannot be made again either: topic {job.input} begins at offset 20" in refusing.said
        assert job.offsets() == kept
    storage.roll_back(job)
    job.start()
    job.wait_for_commits(200)
    job.finish()
    trial.judge_topics(job)


def redis_options(address: str) -> Options:
    return Options(partitions=PARTITIONS, per_second=120, store=address)


@pytest.mark.faults
def test_redis_killed_for_20_seconds(
    between_topics: StartBetween, kafka: Kafka, trial: Trial, redis_servers: RedisServers
) -> None:
    """Protects: without a snapshot nothing is committed, nothing given up, and no worker ends."""
    trial.on("SIGKILL, back after 20 s", "Redis")
    server = redis_servers()
    job = between_topics(kafka, SHAPE, redis_options(server.address))
    job.start()
    job.wait_until_running()
    job.wait_for_commits(200)
    server.kill()
    time.sleep(2)
    before = job.offsets()
    time.sleep(18)
    assert job.offsets() == before, "offsets were committed without a snapshot"
    server.start()
    job.finish()
    assert "begun again" not in job.said
    trial.judge_topics(job)


@pytest.mark.faults
def test_redis_slow_during_a_revocation(
    between_topics: StartBetween, kafka: Kafka, trial: Trial, redis_proxy: Proxy
) -> None:
    """Protects: a slow store holds a rebalance up for no longer than it may, and heartbeats go on meanwhile: nobody is
    thrown out of the group."""
    trial.on("slow by 2 s for each request, during a rebalance", "Redis")
    job = between_topics(kafka, SHAPE, redis_options(redis_proxy.address))
    first = job.start()
    job.wait_until_running()
    job.wait_for_commits(200)
    redis_proxy.delay_seconds = 2.0
    second = job.start()
    job.wait_for(lambda: len(members(kafka, job)) == 2, "two members of the group")
    time.sleep(8)
    assert len(members(kafka, job)) == 2
    redis_proxy.delay_seconds = 0.0
    job.finish()
    for running in (first, second):
        assert "begun again" not in running.said
    trial.judge_topics(job)


def members(kafka: Kafka, job: Between) -> Sequence[str]:
    """Of the job's consumer group."""
    import asyncio

    async def ask() -> list[str]:
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.servers)
        try:
            await admin.start()
            (answer,) = await admin.describe_consumer_groups([job.name])
            (group,) = answer.groups
            return [member[0] for member in group[-1]] if group[2] == "Stable" else []
        finally:
            await admin.close()

    return asyncio.run(ask())


@pytest.mark.faults
def test_redis_out_of_memory(
    between_topics: StartBetween, kafka: Kafka, trial: Trial, redis_servers: RedisServers
) -> None:
    """Protects: a snapshot that the store refuses is tried again until there is room, and nothing committed until
    then."""
    trial.on("out of memory", "Redis, between topics")
    server = redis_servers()
    job = between_topics(kafka, SHAPE, redis_options(server.address))
    job.start()
    job.wait_until_running()
    job.wait_for_commits(200)
    server.ask("CONFIG", "SET", "maxmemory", "1")
    job.wait_for(lambda: "no snapshot, so nothing is committed" in job.said, "that to be said")
    time.sleep(1)
    before = job.offsets()
    time.sleep(3)
    assert job.offsets() == before
    server.ask("CONFIG", "SET", "maxmemory", "0")
    job.finish()
    assert "begun again" not in job.said
    trial.judge_topics(job)


# Offsets that are not there any more


@pytest.mark.faults
@pytest.mark.parametrize("running", [True, False], ids=["running", "down"])
def test_retention_has_deleted_what_comes_next(
    between_topics: StartBetween, kafka: Kafka, trial: Trial, *, running: bool
) -> None:
    """Protects: input that is gone is not passed over: the job ends and says which, from where to where; no restart
    helps."""
    trial.on(f"input deleted while the job {'runs' if running else 'is down'}", "on_lost_offsets = 'fail'")
    job, lost = with_lost_input(between_topics, kafka, "fail", running=running)
    process = job.running[-1]
    assert process.wait() == exits.INPUT, process.said
    said = re.findall(
        rf"topic {re.escape(job.input)}, partition (\d): (\d+) records, (\d+) to (\d+), have been deleted", process.said
    )
    assert said, process.said
    for partition, count, first, last in said:
        begin, end = lost[int(partition)]
        # what a job that runs has fetched before it stood still is dealt with, and is not lost
        assert begin <= int(first) <= end if running else int(first) == begin
        assert int(last) == end
        assert int(count) == int(last) - int(first) + 1
    assert "on_lost_offsets = 'earliest'" in process.said
    trial.held()


@pytest.mark.faults
@pytest.mark.parametrize("policy", ["earliest", "latest"])
@pytest.mark.parametrize("running", [True, False], ids=["running", "down"])
def test_a_job_may_go_on_behind_what_is_deleted(
    between_topics: StartBetween, kafka: Kafka, trial: Trial, tmp_path: Path, policy: str, *, running: bool
) -> None:
    """Protects: what is lost is said, and nothing else is: the output is that of the records that are left."""
    trial.on(f"input deleted while the job {'runs' if running else 'is down'}", f"on_lost_offsets = '{policy}'")
    job, _ = with_lost_input(between_topics, kafka, policy, running=running)
    job.wait_for(lambda: job.said.count("; going on at ") == PARTITIONS, "it to be said what is lost")
    # the last event tells time to come to an end, and is among what is passed over with `latest`
    lasts = [event for event in everything if b'"user":"last"' in event[2]]
    kafka.produce(job.input, [(b'["last","last"]', value, partition) for partition, _, value in lasts])
    job.finish()
    gone: set[tuple[int, int]] = set()
    for partition, first, to in re.findall(
        r", partition (\d): \d+ records, (\d+) to \d+, have been deleted before .*; going on at (\d+),", job.said
    ):
        gone |= {(int(partition), offset) for offset in range(int(first), int(to))}
    assert gone, job.said
    job.expected = offline(
        tmp_path / "left", [event for event in everything if event[:2] not in gone or event in lasts]
    )
    trial.judge_topics(job)


everything: list[tuple[int, int, bytes]] = []
"""Partition, offset and value of what was in the topic; in the order of the events."""


def with_lost_input(
    between_topics: StartBetween, kafka: Kafka, policy: str, *, running: bool
) -> tuple[Between, Mapping[int, tuple[int, int]]]:
    """A job whose next records have been deleted, all input being there; with the first and last of each partition."""
    settings = {"on_lost_offsets": policy}
    job = between_topics(kafka, SHAPE, Options(partitions=PARTITIONS, per_second=120, source=settings))
    process = job.start()
    job.wait_until_running()
    job.wait_for_commits(200)
    if running:
        kill(process.pid, signal.SIGSTOP)
    else:
        process.kill()
    job.feeder.hurry()
    job.feeder.join()
    read = kafka.read(job.input)
    everything[:] = sorted(
        ((record.partition, record.offset, record.value or b"") for record in read),
        key=lambda each: json.loads(each[2])["seq"],
    )
    at = job.offsets()
    # well behind what may have been fetched, and well before the end
    ends = kafka.end_offsets(job.input)
    upto = {partition: (offset + ends[partition]) // 2 for partition, offset in at.items()}
    kafka.delete_records(job.input, upto)
    if running:
        kill(process.pid, signal.SIGCONT)
    else:
        job.start()
    return job, {partition: (at[partition], upto[partition] - 1) for partition in at}


def offline(folder: Path, events: Sequence[tuple[int, int, bytes]]) -> Mapping[str, Sequence[Row]]:
    """The rows that the patterns give for these events."""
    lay_out_offline(folder, SHAPE)
    (folder / "in" / "events-0.jsonl").write_bytes(b"".join(value + b"\n" for _, _, value in events))
    job = Job(folder)
    try:
        running = job.start()
        assert running.wait() == 0, running.said
    finally:
        job.close()
    return rows_of(folder)
