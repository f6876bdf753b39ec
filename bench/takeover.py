"""How long it takes until another worker goes on with a partition that has very many partial matches."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import inputs
from cluster import Cluster, Turn, first_lines
from figures import Spread, spread
from inputs import note
from jobs import empty_redis
from measure import BenchError, load
from workers import Worker, cores, job_command

MATCHES = {False: 100_000, True: 20_000}
"""Partial matches that are taken over; fewer for rough figures."""
HOWS = ("SIGTERM", "SIGKILL")
_PROBES = 20
"""Users for whom one more event makes a match."""
_MOST_REPEATS = 5
"""In event time, more would outlive the partial matches."""
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Takeover:
    """With one store, and one way to end.

    Attributes:
        store: of the snapshots.
        partial_matches: that were taken over.
        how: the worker before was ended.
        assigned_s: from the signal until the group has given the partition to the other worker.
        commit_s: from then until that has committed something.
        match_s: from then until a match can be read that an event makes which is appended at that moment.
        peak_bytes: of workers that took over.
        load: at the end.
    """

    store: str
    partial_matches: int
    how: str
    assigned_s: Spread
    commit_s: Spread
    match_s: Spread
    peak_bytes: int
    load: float


def takeover(cluster: Cluster, address: str, folder: Path, repeats: int, *, quick: bool) -> list[Takeover]:
    """With snapshots in a directory, and in the Redis at `address`."""
    store = folder / "takeover"
    ways = {"directory": ["--checkpoint-dir", str(store)], "Redis": ["--checkpoint-redis", address]}
    found = []
    for way, options in ways.items():
        note(f"{MATCHES[quick]:,} partial matches, snapshots in {way} ...")
        shutil.rmtree(store, ignore_errors=True)
        empty_redis(address)
        found += _measured(cluster, way, options, folder, min(repeats, _MOST_REPEATS), MATCHES[quick])
    return found


def _measured(cluster: Cluster, way: str, options: list[str], folder: Path, repeats: int, users: int) -> list[Takeover]:
    name = f"takeover-{way.lower()}"
    source, target = (cluster.make_topic(f"{name}-{what}", 1) for what in ("logins", "alerts"))
    place = (source, 0)
    command = job_command(cluster.servers, name, source, target, *options)
    turns: dict[str, list[Turn]] = {how: [] for how in HOWS}
    peaks: dict[str, list[int]] = {how: [] for how in HOWS}
    running = [Worker(command, folder, cores()[0])]
    try:
        _until(running, "the partition's first owner", lambda: place in cluster.owners(name))
        [end] = cluster.fill(source, first_lines(inputs.opened(users, _PROBES), users + 10 * _PROBES), 1)
        _until(running, "the whole input", lambda: _offset(cluster, name, source) >= end)
        probe = 0
        for _ in range(repeats):
            for how in HOWS:
                running.append(Worker(command, folder, cores()[0]))
                _until(running, "two members", lambda: cluster.members(name) == 2 and place in cluster.owners(name))
                time.sleep(1.0)
                owner, heir = running
                former = cluster.owners(name)[place]
                end_it = owner.terminate if how == "SIGTERM" else owner.kill
                turn = cluster.take_over(name, place, former, target, end_it, _events(probe), f"probe{probe}")
                if how == "SIGTERM":
                    owner.ended()
                turns[how].append(turn)
                peaks[how].append(heir.peak_bytes())
                running.remove(owner)
                probe += 1
        [last] = running
        last.terminate()
        partial = int(last.ended()["patterns"]["suspicious_login"]["partial_matches"])
    finally:
        for worker in running:
            with worker:
                pass
    if partial < users:
        raise BenchError(f"{name}: {users:,} partial matches were to be taken over, {partial:,} are there")
    return [
        Takeover(
            way,
            partial,
            how,
            spread([turn.assigned - turn.ended for turn in turns[how]]),
            spread([turn.committed - turn.assigned for turn in turns[how]]),
            spread([turn.readable - turn.assigned for turn in turns[how]]),
            max(peaks[how]),
            load(),
        )
        for how in HOWS
    ]


def _offset(cluster: Cluster, name: str, topic: str) -> int:
    held = cluster.committed(name).get((topic, 0))
    return -1 if held is None else held.offset


def _events(probe: int) -> list[bytes]:
    """The one that completes a match, and one that lets time pass."""
    at, later = inputs.after_opening(2 * probe), inputs.after_opening(2 * probe + 1)
    return [inputs.login(f"probe{probe}", at), inputs.login("clock", later)]


def _until(running: list[Worker], what: str, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        for worker in running:
            worker.check()
        if time.monotonic() > until:
            raise BenchError(f"{what} did not come\n{running[-1].said}")
        time.sleep(0.1)
