"""P1 from topic to topic, exactly once, against loops that only consume; in turns, over the same topic."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cluster import Cluster, first_lines, total
from figures import Row, Taken, rows_of
from inputs import BENCH, generated, note
from jobs import empty_redis
from measure import BenchError, run
from workers import Worker, cores, job_command, on

PARTITIONS = 2
EVENTS = {False: 4_000_000, True: 1_000_000}
"""In the topic; fewer for rough figures."""
FAUST_EVENTS = {False: 50_000, True: 20_000}
"""Of them, for Faust: its rate is what counts."""
BASIS = "aiokafka, `getmany`"
LOOPS = {
    BASIS: "aiokafka",
    "Ostinato's consumer alone": "bulk",
    "Faust, `async for`": "faust",
    "Faust, `stream.take`": "faust-take",
    "Faust with P1 in its agent": "faust-pattern",
}
_LOOK_SECONDS = 0.02
_PATIENCE_SECONDS = 300.0


def throughput(cluster: Cluster, address: str, folder: Path, repeats: int, *, quick: bool) -> list[Row]:
    """Fill a topic and read it in all ways, in turns.

    Args:
        cluster: where the topics are.
        address: of a Redis for snapshots.
        folder: for what is written.
        repeats: of each way.
        quick: less of everything.
    """
    events = EVENTS[quick]
    source, target = cluster.make_topic("logins", PARTITIONS), cluster.make_topic("alerts", PARTITIONS)
    note(f"filling a topic with {events:,} events ...")
    ends = cluster.fill(source, first_lines(generated("login", max(events, 1_000_000)), events), PARTITIONS)
    store = folder / "snapshots"
    jobs = {
        "Ostinato, P1 exactly once, snapshots in a directory": ("directory", ["--checkpoint-dir", str(store)]),
        "Ostinato, P1 exactly once, snapshots in Redis": ("redis", ["--checkpoint-redis", address]),
    }

    def job(way: str, number: int) -> Taken:
        shutil.rmtree(store, ignore_errors=True)
        empty_redis(address)
        kind, options = jobs[way]
        name = f"throughput-{kind}-{number}"
        return _job(cluster, job_command(cluster.servers, name, source, target, *options), name, source, ends, folder)

    note("kernels ...")
    job(next(iter(jobs)), 0)  # they are compiled where that was never done
    taken: dict[str, list[Taken]] = {way: [] for way in (*LOOPS, *jobs)}
    for number in range(1, repeats + 1):
        for way, runs in taken.items():
            note(f"{number}: {way} ...")
            if way in jobs:
                runs.append(job(way, number))
            else:
                kind = LOOPS[way]
                own = [FAUST_EVENTS[quick]] if kind.startswith("faust") else ends
                runs.append(_loop(cluster.servers, kind, source, own, folder))
    try:
        return rows_of(taken, BASIS)
    except ValueError as error:
        raise BenchError(str(error)) from error


def _loop(servers: str, kind: str, topic: str, ends: Sequence[int], folder: Path) -> Taken:
    """One of the loops, to its end."""
    command = [sys.executable, str(BENCH / "loops.py"), kind, servers, topic, ",".join(map(str, ends))]
    output = folder / "loop"
    with on(cores()[0]):
        measured = run(command, output)
    said = [line for line in output.read_text().splitlines() if line.startswith("{")]
    if not said:
        raise BenchError(f"{kind}: it said nothing")
    found = json.loads(said[-1])
    first, events = found["first"], found["events"]
    return Taken(events - first, found["seconds"], found["cpu_seconds"], events, measured.wall_s)


def _job(cluster: Cluster, command: Sequence[str], name: str, topic: str, ends: Sequence[int], folder: Path) -> Taken:
    """The job, until its committed offsets have reached the ends."""
    events = sum(ends)
    with Worker(command, folder, cores()[0]) as worker:
        first: tuple[int, float, float] | None = None
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            worker.check()
            reached = total(cluster.committed(name), [topic])
            now, cpu = time.perf_counter(), worker.cpu_seconds()
            if first is None and reached:
                first = reached, now, cpu
            if reached >= events:
                break
            if time.monotonic() > until:
                raise BenchError(
                    f"{name}: {reached:,} of {events:,} events after {_PATIENCE_SECONDS:g} s\n{worker.said}"
                )
            time.sleep(_LOOK_SECONDS)
        assert first is not None
        if first[0] >= events:
            raise BenchError(f"{name}: all {events:,} events came with the first commit; give it more")
        worker.terminate()
        matches = int(worker.ended()["matches"])
        return Taken(events - first[0], now - first[1], cpu - first[2], events, now - worker.began, matches)
