"""How soon a match can be read after the event was appended that completes it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster, total
from figures import Delays, delays_of
from inputs import BENCH, note
from jobs import empty_redis
from measure import BenchError, load
from workers import Worker, cores, job_command

PARTITIONS = 2
PER_SECOND = 10_000
SECONDS = {False: 60.0, True: 10.0}
WARM_SECONDS = {False: 10.0, True: 5.0}
_PATIENCE_SECONDS = 120.0
_COMPILE_SECONDS = 300.0
_AFTER_SECONDS = 2.0
"""For the last matches to arrive."""


@dataclass(frozen=True)
class Latency:
    """With one store.

    Attributes:
        store: of the snapshots.
        events_per_s: that were appended.
        seconds: in which those were appended that count.
        delays: from append to read.
        commits_per_s: of each partition.
        cpu_part: CPU seconds of the worker by seconds.
        behind: events that the feeder was late with.
        load: at the end.
    """

    store: str
    events_per_s: float
    seconds: float
    delays: Delays
    commits_per_s: float
    cpu_part: float
    behind: int
    load: float


def latency(cluster: Cluster, address: str, folder: Path, *, quick: bool) -> list[Latency]:
    """With snapshots in a directory, and in the Redis at `address`."""
    store = folder / "latency"
    ways = {"directory": ["--checkpoint-dir", str(store)], "Redis": ["--checkpoint-redis", address]}
    note("kernels ...")
    _warm(cluster, ways["directory"], folder)
    found = []
    for way, options in ways.items():
        note(f"matches at {PER_SECOND:,} events/s, snapshots in {way} ...")
        shutil.rmtree(store, ignore_errors=True)
        empty_redis(address)
        found.append(_measured(cluster, way, options, folder, quick=quick))
    return found


def _warm(cluster: Cluster, options: list[str], folder: Path) -> None:
    """Run the job for a moment: its kernels are compiled where that was never done."""
    name = "latency-warm"
    source, target = (cluster.make_topic(f"{name}-{what}", PARTITIONS) for what in ("logins", "alerts"))
    command = job_command(cluster.servers, name, source, target, *options, program="p1_now.cep")
    feed = _feed("append", cluster.servers, source, str(PER_SECOND), "1")
    events = json.loads(subprocess.run(feed, capture_output=True, check=True).stdout.splitlines()[-1])["events"]
    with Worker(command, folder, cores()[0]) as worker:
        until = time.monotonic() + _COMPILE_SECONDS
        while total(cluster.committed(name), [source]) < events:
            worker.check()
            if time.monotonic() > until:
                raise BenchError(f"{name}: not all events were taken\n{worker.said}")
            time.sleep(0.1)
        worker.terminate()
        worker.ended()


def _measured(cluster: Cluster, way: str, options: list[str], folder: Path, *, quick: bool) -> Latency:
    name = f"latency-{way.lower()}"
    source, target = (cluster.make_topic(f"{name}-{what}", PARTITIONS) for what in ("logins", "alerts"))
    seconds, warm = SECONDS[quick], WARM_SECONDS[quick]
    command = job_command(cluster.servers, name, source, target, *options, program="p1_now.cep")
    with Worker(command, folder, cores()[0]) as worker, _reader(cluster.servers, target) as reader:
        until = time.monotonic() + _PATIENCE_SECONDS
        while len(cluster.committed(name)) < PARTITIONS:
            worker.check()
            if time.monotonic() > until:
                raise BenchError(f"{name}: nothing was committed\n{worker.said}")
            time.sleep(0.1)
        feeder = subprocess.Popen(
            _feed("append", cluster.servers, source, str(PER_SECOND), str(warm + seconds)), stdout=subprocess.PIPE
        )
        try:
            assert feeder.stdout is not None
            feeder.stdout.readline()  # it has begun
            time.sleep(warm)
            began, cpu, commits = time.time(), worker.cpu_seconds(), _commits(cluster, name)
            time.sleep(seconds - 0.5)
            ended, cpu, commits = time.time(), worker.cpu_seconds() - cpu, _commits(cluster, name) - commits
            fed = json.loads(feeder.communicate(timeout=_PATIENCE_SECONDS)[0])
        finally:
            feeder.kill()
            feeder.wait()
        time.sleep(_AFTER_SECONDS)
        worker.check()
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.close()
        delays = [delay / 1000 for sent, delay in json.loads(reader.stdout.read()) if began <= sent / 1_000_000 < ended]
        worker.terminate()
        worker.ended()
    try:
        found = delays_of(delays)
    except ValueError as error:
        raise BenchError(f"{name}: no match was read\n{worker.said}") from error
    took = ended - began
    return Latency(
        way, fed["events"] / fed["seconds"], took, found, commits / PARTITIONS / took, cpu / took, fed["behind"], load()
    )


def _commits(cluster: Cluster, name: str) -> int:
    """How many there have been, of all partitions: each has a snapshot, and they are numbered."""
    held = cluster.committed(name).values()
    return sum(json.loads(each.metadata.removeprefix("ostinato"))["snapshot"] for each in held)


def _feed(what: str, servers: str, topic: str, *more: str) -> list[str]:
    return [sys.executable, str(BENCH / "feed.py"), what, servers, topic, str(PARTITIONS), *more]


@contextmanager
def _reader(servers: str, topic: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads matches."""
    process = subprocess.Popen(_feed("read", servers, topic), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise BenchError("the reader of matches ended")
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
