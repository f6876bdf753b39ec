"""Files hold each row exactly once, however often and wherever the job is killed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.connectors.transactional_job import LAST, NAMES, hidden, numbers_in, run

FORMS = list(NAMES)
STEPS = [
    "sink.prepare",
    "sink.prepared",
    "sink.publish",
    "sink.publishing",
    "publish.file",
    "sink.published",
    "sink.recovered",
]
ALL = list(range(LAST))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def content(folder: Path, form: str) -> bytes:
    path = folder / NAMES[form]
    return path.read_bytes() if path.exists() else b""


def times(form: str, step: str) -> list[int]:
    """Which of the times that a run comes to a step it is killed at."""
    once = step == "sink.recovered" or (form == "parquet" and step in ("sink.publishing", "publish.file"))
    return [1] if once else [1, 3] if form in ("json", "parquet", "dead") else [2]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(folder: Path, form: str, step: str) -> None:
    for nth in times(form, step):
        assert not run(folder, form, f"{step}:{nth}=kill"), f"{step} was not reached {nth} times"
        before = content(folder, form)
        assert not run(folder, form, "sink.recovered=kill"), "killed while it recovered from being killed"
        assert run(folder, form)
        # who follows the file never sees a row that is taken back
        assert form == "parquet" or content(folder, form).startswith(before)
        assert numbers_in(folder, form) == ALL
        assert hidden(folder) == []
        folder.with_suffix(".checkpoint").unlink()
        (folder / NAMES[form]).unlink()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", [0, 10, 39])
def test_killed_while_it_writes(folder: Path, form: str, at: int) -> None:
    assert not run(folder, form, kill_at=at)
    assert run(folder, form)
    assert numbers_in(folder, form) == ALL
    assert hidden(folder) == []


faults = st.one_of(
    st.builds(lambda step, nth: (f"{step}:{nth}=kill", None), st.sampled_from(STEPS), st.integers(1, 5)),
    st.builds(lambda at: ("", at), st.integers(0, LAST - 1)),
)


@given(st.sampled_from(FORMS), st.lists(faults, min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_killed_again_and_again(form: str, strikes: list[tuple[str, int | None]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "out"
        folder.mkdir()
        seen = b""
        for fault, at in strikes:
            run(folder, form, fault, at)
            now = content(folder, form)
            assert form == "parquet" or now.startswith(seen)
            seen = now
        assert run(folder, form)
        assert numbers_in(folder, form) == ALL
        assert hidden(folder) == []
