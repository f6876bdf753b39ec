"""What the fault tests share: jobs that leave nothing behind, the expected rows, and the matrix at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.faults.checker import Row
from tests.faults.driver import Job
from tests.faults.workload import KEYS, Shape, lay_out

Reference = Callable[[Shape], Mapping[str, Sequence[Row]]]
MakeJob = Callable[..., Job]


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
