"""What the fault tests share: jobs that leave nothing behind, the expected rows, and the matrix at the end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ostinato.server import exits
from tests.faults.checker import Faults, Row, check, read_outputs
from tests.faults.driver import Job, Running, eventually
from tests.faults.kafka_driver import Between, Options
from tests.faults.kafka_workload import lay_out_offline, rows_of
from tests.faults.matrix import PROPERTY, as_text, entry, matrix
from tests.faults.workload import KEYS, Feeder, Shape, events_of, lay_out
from tests.kafka_clients import Kafka

Reference = Callable[[Shape], Mapping[str, Sequence[Row]]]
MakeJob = Callable[..., Job]


class Trial:
    """What a test does to a job, for the matrix: say it with `on`, then judge the job's output with `judge`."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self.fault = self.where = ""
        self.faults: Faults | None = None
        self.recovery: float | None = None
        """Seconds after the last fault, where that was measured."""

    def on(self, fault: str, where: str) -> None:
        """What is done, and to what."""
        self.fault, self.where = fault, where

    def judge(self, folder: Path, shape: Shape) -> None:
        """The output of the job in a folder must be what an undisturbed one gives for input of this shape."""
        self.faults = check(self._reference(shape), read_outputs(folder / "out"), KEYS)
        assert not self.faults, f"{self.fault}, {self.where}:\n{self.faults}"

    def judge_topics(self, job: Between, *, dead_letters: int = 0) -> None:
        """The same of a job between topics, and of how soon it had recovered."""
        self.recovery = job.recovered
        self.faults = job.judge(dead_letters=dead_letters)
        assert not self.faults, f"{self.fault}, {self.where}:\n{self.faults}\nThe job said:\n{job.said}"
        assert job.ended, f"it has never come to the end; it said:\n{job.said}"

    def held(self) -> None:
        """The job did what it should, and there is no output to judge."""
        self.faults = Faults()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The rows that an undisturbed job gives, which test_workload.py compares with the definitions."""
    known: dict[Shape, Mapping[str, Sequence[Row]]] = {}

    def rows(shape: Shape) -> Mapping[str, Sequence[Row]]:
        if shape not in known:
            folder = tmp_path_factory.mktemp("reference") / "job"
            lay_out(folder, shape)
            job = Job(folder)
            try:
                running = job.start()
                assert running.wait() == 0, running.said
            finally:
                job.close()
            known[shape] = {
                name: [json.loads(line) for line in (folder / "out" / f"{name}.jsonl").read_text().splitlines()]
                for name in KEYS
            }
        return known[shape]

    return rows


@pytest.fixture
def make_job() -> Iterator[MakeJob]:
    """Jobs, of which no process is left when the test is over."""
    jobs: list[Job] = []

    def make(folder: Path, *arguments: str, program: str = "job.cep") -> Job:
        jobs.append(Job(folder, *arguments, program=program))
        return jobs[-1]

    yield make
    for job in jobs:
        job.close()


class Live:
    """A job that follows its input while that is being written."""

    def __init__(self, folder: Path, job: Job, feeder: Feeder, expected: Mapping[str, Sequence[Row]]) -> None:
        self.folder = folder
        self.job = job
        self.feeder = feeder
        self.running: Running = job.start()
        self._expected = {name: len(rows) for name, rows in expected.items()}

    def published(self) -> int:
        """Rows that can be seen so far."""
        return sum(content.count(b"\n") for content in read_outputs(self.folder / "out").values())

    def wait_for_output(self, more: int = 1) -> None:
        """Wait until so many more rows are published."""
        target = self.published() + more
        self.running.wait_for(lambda: self.published() >= target, f"{target} rows")

    def resume(self, *arguments: str) -> None:
        """Start the job again, whose supervisor is dead."""
        assert not self.running.alive
        self.running = self.job.start(*(arguments or ("--resume",)))

    def finish(self, seconds: float = 90.0) -> None:
        """Have the rest of the input written, wait until all is published that is expected, and end the job."""
        self.feeder.hurry()
        self.feeder.join(30)
        total = sum(self._expected.values())
        # what is lost never comes; then the verdict is the checker's
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.published() >= total, "all rows", seconds, unless=self.running.check_alive)
        assert self.running.stop() in (0, exits.TERMINATED), self.running.said


StartLive = Callable[..., Live]


@pytest.fixture
def start_live(tmp_path: Path, make_job: MakeJob, reference: Reference) -> Iterator[StartLive]:
    """Starts the workload with its input written bit by bit."""
    lives: list[Live] = []

    def start(shape: Shape, *arguments: str, per_second: float = 1_000) -> Live:
        folder = tmp_path / "job"
        lay_out(folder, shape, follow=True, write=False)
        feeder = Feeder(folder, events_of(shape), per_second)
        feeder.start()
        lives.append(Live(folder, make_job(folder, *arguments), feeder, reference(shape)))
        return lives[-1]

    yield start
    for live in lives:
        live.feeder.close()


@pytest.fixture(scope="session")
def topic_reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The rows that the patterns between topics give over a file."""
    known: dict[Shape, Mapping[str, Sequence[Row]]] = {}

    def rows(shape: Shape) -> Mapping[str, Sequence[Row]]:
        if shape not in known:
            folder = tmp_path_factory.mktemp("reference") / "job"
            lay_out_offline(folder, shape)
            job = Job(folder)
            try:
                running = job.start()
                assert running.wait() == 0, running.said
            finally:
                job.close()
            known[shape] = rows_of(folder)
            assert all(known[shape].values()), "a stream is empty: then nothing can be missed in it"
        return known[shape]

    return rows


StartBetween = Callable[..., Between]


@pytest.fixture
def between_topics(tmp_path: Path, topic_reference: Reference) -> Iterator[StartBetween]:
    """Makes jobs between topics of a Kafka, whose input begins to be written; the test starts them."""
    jobs: list[Between] = []

    def make(kafka: Kafka, shape: Shape, options: Options | None = None) -> Between:
        job = Between(tmp_path / f"job-{len(jobs)}", kafka, shape, topic_reference(shape), options or Options())
        jobs.append(job)
        job.feeder.start()
        return job

    yield make
    for job in jobs:
        job.close()


@pytest.fixture
def trial(request: pytest.FixtureRequest, reference: Reference) -> Iterator[Trial]:
    """A line of the matrix; a test that never comes to judge is counted as failed there."""
    tried = Trial(reference)
    yield tried
    if tried.fault:
        request.node.user_properties.append((PROPERTY, entry(tried.fault, tried.where, tried.faults, tried.recovery)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix."""
    entries = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if entries:
        terminalreporter.section("fault matrix")
        for line in as_text(matrix(entries)):
            terminalreporter.write_line(line)
