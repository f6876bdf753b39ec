"""SIGKILL of the server and of its live worker, while events and changes come in, at named steps and at any moment.

Every test runs the same workload (server_workload.py): three clients that send events with idempotency keys, somebody
who deploys, rolls back, pauses, shadows and sets parameters all the time, a follower by server-sent events, a webhook
and a file output; and judges it in the same way when all kills are over. Two
protections were taken away by hand in the servers, the keys and the skipping of rows: the tests that name them say what
came of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.driver import eventually
from tests.faults.server_workload import Workload
from tests.server_driver import Server, servers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(110)]

_STRUCK_SECONDS = 30.0


@pytest.fixture
def workload(tmp_path: Path) -> Iterator[Workload]:
    """One that has begun. Small segments and frequent snapshots: their edges are to be struck too."""
    with servers(tmp_path) as make:
        server: Server = make(
            checkpoints__interval="150ms",
            journal__segment_bytes="64KiB",
            matches__segment_bytes="64KiB",
            webhooks__allow_private=True,
            files__write=[str(tmp_path)],
        )
        server.start()
        work = Workload(server, tmp_path)
        try:
            work.begin()
            yield work
        finally:
            work.close()


def strike(server: Server, fault: str) -> None:
    """A life of the server that ends with a fault at a named step; of the worker, where that is whom it kills."""
    if server.alive:
        server.kill()
    server.launch(fault)
    server.wait_for(lambda: server.struck() or not server.alive, f"{fault} to strike", _STRUCK_SECONDS, ended=True)
    if "@worker" in fault and "parent" not in fault:
        # it is begun again, and goes on for a while
        server.wait_until_ready()
        time.sleep(0.3)
    else:
        assert server.wait() == -9
    assert server.struck(), f"{fault} has not struck; the server said:\n{server.said}"


def tear(server: Server) -> None:
    """Leave what a crash leaves of a write that nobody was told of: the beginning of a record."""
    last = max((server.data / "journal").glob("*.log"))
    with last.open("ab") as file:
        file.write((900).to_bytes(4, "little") * 30)


def go_on(server: Server) -> None:
    if not server.alive:
        server.launch()
    server.wait_until_ready()
    time.sleep(0.5)


def test_killed_while_the_journal_is_written(workload: Workload) -> None:
    """Acknowledged means durable, and a batch that is sent again is known by its key. Without the keys, events were in
    the journal twice."""
    server = workload.server
    for fault in ("journal.append:60=kill", "journal.synced:60=kill", "journal.rolled=kill"):
        strike(server, fault)
    tear(server)
    strike(server, "journal.cut=kill")
    go_on(server)
    print(workload.judge())


def test_killed_while_changes_are_made(workload: Workload) -> None:
    """A change is in the catalog, marked as begun, before it is in the journal; what was begun is brought to its end at
    the next start. When a change that the journal had was appended once more, this test saw it: it took effect at
    another place than was listed."""
    server = workload.server
    for fault in ("change.begun:2=kill", "change.appended:2=kill", "change.completed:2=kill", "change.appended=kill"):
        strike(server, fault)
    go_on(server)
    print(workload.judge())


def test_worker_killed_at_its_steps(workload: Workload) -> None:
    """The worker computes again from its last snapshot, and skips the rows that the log of matches holds.
    Without that the test did not come to its end in its time."""
    server = workload.server
    for fault in (
        "live.step:40@worker=kill",
        "matches.append:30@worker=kill",
        "live.synced:2@worker=kill",
        "live.snapshot:2@worker=kill",
        "matches.synced:2@worker=kill-parent",
    ):
        strike(server, fault)
    go_on(server)
    print(workload.judge())


def test_killed_while_matches_go_out(workload: Workload) -> None:
    """An output's cursor moves behind what its target has; a file is cut back to what its note says."""
    server = workload.server
    for fault in ("output.sent:3=kill", "output.synced:3=kill", "output.moved:3=kill"):
        strike(server, fault)
    go_on(server)
    print(workload.judge())


def test_killed_at_any_moment(workload: Workload) -> None:
    """All of it together: the server and its worker in turn, at moments that nobody has chosen."""
    server = workload.server
    chance = random.Random()
    for number in range(6):
        if not server.alive:
            server.launch()
        if number % 4 != 3:  # now and then it is killed while it begins
            server.wait_until_ready()
        time.sleep(chance.uniform(0.05, 0.9))
        if number % 2:
            server.kill()
        else:
            eventually(lambda: server.worker, "a live worker", unless=server.check_alive)
            server.kill_worker()
    go_on(server)
    print(workload.judge())
