"""Jobs that the server runs for people, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ostinato.server.catalog import Catalog, Role
from ostinato.server.config import FilesSection, ModulesSection, ServerConfig, ServerSection
from ostinato.server.failures import ConflictError, NotAllowedError, NotReadyError, NotThereError, RefusedError
from ostinato.server.http.caller import Caller
from ostinato.server.http.schemas.jobs import JobInfo, JobRequest, JobsQuery, SavepointRequest, StopRequest
from ostinato.server.metrics import Metrics, Snapshot
from ostinato.server.submitted.service import Jobs
from tests.kafka_clients import Kafka

pytestmark = pytest.mark.anyio

CALLER = Caller("ann", Role.OPERATOR)
PROGRAM = """
stream events (k string key, ts timestamp(ms) time, v int) from file '{path}'{options}
pattern rise on events match a -> b define a as v > 0, b as v = 0 within 1 min emit k, a.v as v into rises
"""

MODULE = """
from __future__ import annotations
from ostinato import cep

class Events(cep.Event, key="k", time="ts", name="events", source="{path}"):
    k: str
    ts: int
    v: int

@cep.pattern("a b", on=Events, within="1 min", a=lambda e: e.v > 0, b=lambda e: e.v == 0)
def rise(match):
    return {{"k": match.key, "v": match["a"].v}}
"""


class Rig:
    """A data directory, and files that jobs may read and write."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.files = folder / "in"
        self.out = folder / "out"
        self.modules = folder / "modules"
        for each in (self.data, self.files, self.out, self.modules):
            each.mkdir()

    @property
    def config(self) -> ServerConfig:
        return ServerConfig(
            server=ServerSection(workers=2),
            files=FilesSection((str(self.files),), (str(self.out),)),
            modules=ModulesSection((str(self.modules),)),
        )

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Jobs]:
        with Catalog(self.data) as catalog:
            jobs = Jobs(self.data, catalog.jobs, catalog.database, self.config)
            await jobs.open()
            try:
                yield jobs
            finally:
                await jobs.close()

    def write(self, count: int, first: int = 0) -> Path:
        """Pairs of events, each of which is a match; the last one waits for an event behind it, or the end."""
        path = self.files / "events.jsonl"
        with path.open("a") as file:
            for n in range(first, first + count):
                file.write(json.dumps({"k": f"k{n % 7}", "ts": 1000 * n, "v": n + 1}) + "\n")
                file.write(json.dumps({"k": f"k{n % 7}", "ts": 1000 * n + 1, "v": 0}) + "\n")
        return path

    def program(self, *, follow: bool = False, sink: str = "") -> str:
        options = " (follow = true)" if follow else ""
        return PROGRAM.format(path=self.files / "events.jsonl", options=options) + sink


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop of the server."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def until(jobs: Jobs, job: str, holds: Callable[[JobInfo], bool], seconds: float = 20.0) -> JobInfo:
    deadline = time.monotonic() + seconds
    while not holds(info := await jobs.get(job)):
        assert time.monotonic() < deadline, info
        await asyncio.sleep(0.05)
    return info


def values(path: Path) -> list[int]:
    return [json.loads(line)["v"] for line in path.read_text().splitlines()]


def is_alive(pid: int) -> bool:
    """Does it still do anything? Where nobody waits for it, its entry stays."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def pid_of(jobs: Jobs, job: str) -> int:
    pid = jobs._running[job].pid
    assert pid is not None
    return pid


async def test_a_job_over_a_file_finishes_and_its_output_is_there(rig: Rig) -> None:
    rig.write(100)
    async with rig.server() as jobs:
        made = await jobs.create(JobRequest(name="rises", text=rig.program()), CALLER)
        assert (made.state, made.created_by) == ("CREATED", "ann")
        done = await until(jobs, made.id, lambda info: info.state == "FINISHED")
        assert (done.events, done.matches, done.exit_code, done.error) == (200, 100, 0, None)
        assert sorted(values(Path(done.folder) / "output" / "rises.jsonl")) == list(range(1, 101))
        assert any("end of input" in line for line in done.log)
        assert not (Path(done.folder) / "checkpoints").exists()
        page = await jobs.list(JobsQuery())
        assert [info.id for info in page.items] == [made.id]
        with pytest.raises(ConflictError, match="is FINISHED"):
            await jobs.cancel(made.id, CALLER)


async def test_a_killed_process_begins_again_and_each_row_comes_once(rig: Rig) -> None:
    rig.write(300)
    target = rig.out / "rises.jsonl"
    text = rig.program(follow=True, sink=f"output rises to file '{target}'")
    request = JobRequest(
        name="follower", text=text, checkpoint_interval="50ms", restart="fixed-delay attempts=5 delay=50ms"
    )
    async with rig.server() as jobs:
        made = await jobs.create(request, CALLER)
        await until(jobs, made.id, lambda info: info.matches == 299 and info.last_checkpoint_ms is not None)
        first = await pid_of(jobs, made.id)
        os.kill(first, signal.SIGKILL)
        await until(jobs, made.id, lambda info: info.restarts == 1 and info.state == "RUNNING")
        rig.write(200, 300)
        running = await until(jobs, made.id, lambda info: info.matches == 499)
        assert running.error is None
        assert await pid_of(jobs, made.id) != first
        stopped = await jobs.stop(made.id, StopRequest("last", drain=True), CALLER)
        assert stopped.path.startswith(str(rig.data / "jobs" / made.id / "savepoints" / "last"))
        info = await jobs.get(made.id)
        assert info.state == "STOPPED"
    assert sorted(values(target)) == list(range(1, 501))


async def test_a_job_goes_on_with_the_next_server(rig: Rig) -> None:
    rig.write(100)
    target = rig.out / "rises.jsonl"
    text = rig.program(follow=True, sink=f"output rises to file '{target}'")
    async with rig.server() as jobs:
        made = await jobs.create(JobRequest(name="lasting", text=text, checkpoint_interval="10min"), CALLER)
        await until(jobs, made.id, lambda info: info.events == 200)
        first = await pid_of(jobs, made.id)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    rig.write(100, 100)
    async with rig.server() as jobs:
        await until(jobs, made.id, lambda info: info.state == "RUNNING" and info.events == 400)
        taken = await jobs.savepoint(made.id, SavepointRequest("here"), CALLER)
        assert taken.name == "here"
        assert taken.bytes > 0
        with pytest.raises(ConflictError, match="there is a savepoint `here` already"):
            await jobs.savepoint(made.id, SavepointRequest("here"), CALLER)
        with pytest.raises(ConflictError, match="is called `lasting`"):
            await jobs.create(JobRequest(name="lasting", text=text), CALLER)
        ended = await jobs.cancel(made.id, CALLER)
        assert ended.state == "CANCELED"
        # it goes on from where the savepoint was taken, in a file of its own
        rig.write(50, 200)
        again = JobRequest(name="lasting", text=rig.program(), savepoint=f"{made.id}/here")
        resumed = await jobs.create(again, CALLER)
        done = await until(jobs, resumed.id, lambda info: info.state == "FINISHED")
        assert sorted(values(Path(done.folder) / "output" / "rises.jsonl")) == list(range(200, 251))


async def test_a_job_between_topics_counts_its_transactions(rig: Rig, kafka: Kafka) -> None:
    source = await asyncio.to_thread(kafka.create_topic, kafka.unique("events"), 2)
    target = await asyncio.to_thread(kafka.create_topic, kafka.unique("rises"), 1)
    given = f"bootstrap_servers = '{kafka.servers}', metadata_max_age_ms = 1000"
    text = (
        PROGRAM.replace("from file '{path}'{options}", f"from kafka '{source}' ({given})")
        + f"output rises to kafka '{target}' ({given})"
    )
    events = [{"k": f"k{n % 7}", "ts": 1000 * n + step, "v": 1 - step} for n in range(50) for step in (0, 1)]
    records = [(event["k"], json.dumps(event), None) for event in events]
    await asyncio.to_thread(kafka.produce, source, records)
    async with rig.server() as jobs:
        job = await jobs.create(JobRequest(name="between", text=text, parallelism=2), CALLER)
        await until(jobs, job.id, lambda info: info.events == 100, 60.0)

        def samples() -> dict[str, float]:
            rendered = Metrics().render(Snapshot(now_ms=0, uptime_seconds=1, release="1", jobs=jobs.numbers()))[0]
            lines = [line.rpartition(" ") for line in rendered.decode().splitlines() if 'job="between"' in line]
            return {name.replace('job="between",', ""): float(value) for name, _, value in lines}

        await until(
            jobs,
            job.id,
            lambda _: (
                samples().get('ostinato_transaction_commits_total{partition="1"}', 0) > 0
                and samples()['ostinato_rebalances_total{job="between"}'] >= 2  # two workers have joined
            ),
            60.0,
        )
        found = samples()
        assert found['ostinato_transaction_commits_total{partition="0"}'] > 0
        assert found['ostinato_transaction_commit_seconds_total{partition="0"}'] > 0
        assert found['ostinato_idle_seconds_total{partition=""}'] > 0
        assert found['ostinato_busy_seconds_total{partition=""}'] > 0
        assert found['ostinato_transaction_aborts_total{partition="0"}'] == 0
        assert found['ostinato_consumer_lag{partition="0",stream="events"}'] == 0
        behind = found['ostinato_watermark_lag_seconds{partition="1",stream="events"}']
        assert behind == pytest.approx(time.time() - 49, abs=60), "the events are of 1970"
        assert not any(name.startswith("ostinato_checkpoint") for name in found), "they are part of the transactions"
        await jobs.cancel(job.id, CALLER)


async def test_jobs_beyond_the_workers_wait(rig: Rig) -> None:
    rig.write(1)
    text = rig.program(follow=True)
    async with rig.server() as jobs:
        made = [await jobs.create(JobRequest(name=f"job{n}", text=text), CALLER) for n in range(3)]
        await until(jobs, made[1].id, lambda info: info.state == "RUNNING")
        waiting = await jobs.get(made[2].id)
        assert waiting.state == "CREATED"
        with pytest.raises(NotReadyError, match="is CREATED"):
            await jobs.stop(made[2].id, StopRequest(), CALLER)
        await jobs.cancel(made[0].id, CALLER)
        await until(jobs, made[2].id, lambda info: info.state == "RUNNING")
        newest = await jobs.list(JobsQuery(limit=1))
        assert [info.id for info in newest.items] == [made[2].id]
        rest = await jobs.list(JobsQuery(limit=5, after=newest.next))
        assert [info.state for info in rest.items] == ["RUNNING", "CANCELED"]
        for each in made[1:]:
            await jobs.cancel(each.id, CALLER)


async def test_what_cannot_begin_fails_and_says_why(rig: Rig) -> None:
    async with rig.server() as jobs:
        made = await jobs.create(JobRequest(name="nothing", text=rig.program()), CALLER)
        failed = await until(jobs, made.id, lambda info: info.state == "FAILED")
        assert failed.error is not None
        assert "events.jsonl" in failed.error
        assert (failed.exit_code, failed.restarts) == (3, 0)


@pytest.mark.parametrize(
    ("source", "output", "said"),
    [
        ("file '/etc/passwd'", "", "is not below"),
        ("file '{files}/../x'", "", "without `..`"),
        ("file '{files}/link.jsonl'", "", "is not below"),
        ("file '{files}/*.jsonl'", "", "is not below"),
        ("file 'x.jsonl'", "", "write the whole path"),
        ("kafka 't' (sasl_plain_password = 'env:HOME')", "", "the environment is the server's"),
        ("kafka 't' (sasl_plain_password = 'file:/etc/passwd')", "", "is not below"),
        ("kafka 't' (ssl_cafile = '/etc/passwd')", "", "is not below"),
        ("file '{files}/e.jsonl'", "output p to file '/tmp/x.jsonl'", "files.write"),
        ("file '{files}/e.jsonl'", "output p to file '../../x.jsonl'", "without `..`"),
    ],
)
async def test_files_outside_of_what_is_allowed_are_refused(rig: Rig, source: str, output: str, said: str) -> None:
    (rig.files / "link.jsonl").symlink_to("/etc/passwd")
    text = (
        f"stream e (v int) processing time from {source} pattern p on e match a define a as v > 0 {output}"
    ).replace("{files}", str(rig.files))
    async with rig.server() as jobs:
        with pytest.raises(NotAllowedError) as caught:
            await jobs.create(JobRequest(name="thief", text=text), CALLER)
        assert said in str(caught.value)


async def test_requests_that_make_no_sense_are_refused(rig: Rig) -> None:
    bare = "stream e (v int) processing time pattern p on e match a define a as v > 0"
    async with rig.server() as jobs:
        for request in (
            JobRequest(name="a"),
            JobRequest(name="a", text=bare, module="app.py"),
            JobRequest(name="a", text=bare),
            JobRequest(name="a", text=rig.program(), restart="sometimes"),
            JobRequest(name="a", text=rig.program(), checkpoint_interval="7"),
            JobRequest(name="a", text=rig.program(), params={"--follow": "1"}),
            JobRequest(name="a", text=rig.program(), savepoint=f"{'0' * 12}/none"),
        ):
            with pytest.raises(RefusedError):
                await jobs.create(request, CALLER)
        with pytest.raises(NotThereError):
            await jobs.get("nothing")


async def test_a_module_runs_only_from_the_allowed_folders(rig: Rig, tmp_path: Path) -> None:
    module = rig.modules / "app.py"
    module.write_text(MODULE.format(path=rig.write(10)))
    outside = tmp_path / "app.py"
    outside.write_text(module.read_text())
    (rig.modules / "link.py").symlink_to(outside)
    async with rig.server() as jobs:
        for path in (str(outside), "link.py", "../app.py", "/etc/x.py"):
            with pytest.raises(NotAllowedError):
                await jobs.create(JobRequest(name="app", module=path), CALLER)
        with pytest.raises(NotThereError):
            await jobs.create(JobRequest(name="app", module="none.py"), CALLER)
        with pytest.raises(RefusedError):
            await jobs.create(JobRequest(name="app", module="app.cep"), CALLER)
        made = await jobs.create(JobRequest(name="app", module="app.py"), CALLER)
        done = await until(jobs, made.id, lambda info: info.state in ("FINISHED", "FAILED"))
        assert (done.state, done.matches) == ("FINISHED", 10), done


DRIVER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.integration.test_submitted_jobs import CALLER, Rig, JobRequest
rig = Rig.__new__(Rig)
folder = Path(sys.argv[2])
rig.data, rig.files, rig.out, rig.modules = (folder / name for name in ("data", "in", "out", "modules"))

async def main():
    async with rig.server() as jobs:
        text = rig.program(follow=True, sink=f"output rises to file '{rig.out / 'rises.jsonl'}'")
        made = await jobs.create(JobRequest(name="orphan", text=text, checkpoint_interval="50ms"), CALLER)
        while True:
            await asyncio.sleep(0.05)
            info = await jobs.get(made.id)
            if info.matches == 99 and info.last_checkpoint_ms:
                print(made.id, jobs._running[made.id].pid, flush=True)
                await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_killed_server_leaves_no_process_and_the_next_one_goes_on(rig: Rig, tmp_path: Path) -> None:
    rig.write(100)
    root = str(Path(__file__).parents[2])
    driver = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
        [sys.executable, "-c", DRIVER, root, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert driver.stdout is not None
    with driver.stdout:
        job, pid = (await asyncio.to_thread(driver.stdout.readline)).split()
        driver.kill()
        driver.wait()
    deadline = time.monotonic() + 10
    while is_alive(int(pid)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    rig.write(100, 100)
    async with rig.server() as jobs:
        await until(jobs, job, lambda info: info.state == "RUNNING" and info.matches == 199)
        await jobs.stop(job, StopRequest(drain=True), CALLER)
    assert sorted(values(rig.out / "rises.jsonl")) == list(range(1, 201))
