"""What the fault tests share: jobs that leave nothing behind, the expected rows, and the matrix at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.faults.checker import Faults, Row, check, read_outputs
from tests.faults.driver import Job
from tests.faults.matrix import PROPERTY, as_text, entry, matrix
from tests.faults.workload import KEYS, Shape, lay_out

Reference = Callable[[Shape], Mapping[str, Sequence[Row]]]
MakeJob = Callable[..., Job]


class Trial:
    """What a test does to a job, for the matrix: say it with `on`, then judge the job's output with `judge`."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self.fault = self.where = ""
        self.faults: Faults | None = None

    def on(self, fault: str, where: str) -> None:
        """What is done, and to what."""
        self.fault, self.where = fault, where

    def judge(self, folder: Path, shape: Shape) -> None:
        """The output of the job in a folder must be what an undisturbed one gives for input of this shape."""
        self.faults = check(self._reference(shape), read_outputs(folder / "out"), KEYS)
        assert not self.faults, f"{self.fault}, {self.where}:\n{self.faults}"

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


@pytest.fixture
def trial(request: pytest.FixtureRequest, reference: Reference) -> Iterator[Trial]:
    """A line of the matrix; a test that never comes to judge is counted as failed there."""
    tried = Trial(reference)
    yield tried
    if tried.fault:
        request.node.user_properties.append((PROPERTY, entry(tried.fault, tried.where, tried.faults)))


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
