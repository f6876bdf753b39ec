"""The hook by which tests let faults strike at named steps."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ostinato.state.steps import MARKER_VARIABLE, STEPS, SUPERVISOR, VARIABLE, WORKER, reached

SOURCES = Path(__file__).parents[3]


def run(fault: str, code: str, marker: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, VARIABLE: fault}
    if marker is not None:
        environment[MARKER_VARIABLE] = str(marker)
    return subprocess.run(
        [sys.executable, "-c", f"from ostinato.state.steps import *\n{code}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_without_the_variable_nothing_happens_and_it_costs_nothing() -> None:
    assert VARIABLE not in os.environ
    began = time.perf_counter()
    for _ in range(10_000):
        reached("checkpoint.begin")
    # steps are reached a few dozen times in a checkpoint
    assert time.perf_counter() - began < 0.5


def test_an_unknown_step_is_an_error_in_code() -> None:
    with pytest.raises(ValueError, match=r"there is no step 'checkpoint\.begun'"):
        reached("checkpoint.begun")


def test_every_step_in_code_is_in_the_table_and_the_other_way_round() -> None:
    called = {
        step
        for folder in ("cep", "server", "state")
        for path in (SOURCES / folder).rglob("*.py")
        for step in re.findall(r'\b(?:reached\(|step=)"([^"]+)"\)', path.read_text())
    }
    assert called == set(STEPS)


def test_each_step_says_who_comes_there_and_what_it_means() -> None:
    for step in STEPS.values():
        assert step.role in (SUPERVISOR, WORKER)
        assert step.meaning
        assert step.store in ("", "directory", "redis")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("checkpoint.begun=kill", "there is no step 'checkpoint.begun'"),
        ("checkpoint.begin", "cannot read 'checkpoint.begin'"),
        ("checkpoint.begin=explode", "cannot read"),
        ("checkpoint.begin:0=kill", "cannot read"),
        ("checkpoint.begin=sleep", "cannot read"),
        ("checkpoint.begin@parent=kill", "cannot read"),
        ("checkpoint.begin=kill,", "cannot read ''"),
    ],
)
def test_a_bad_variable_is_refused(fault: str, reason: str) -> None:
    done = run(fault, "")
    assert done.returncode != 0
    assert reason in done.stderr


def test_kill_strikes_the_nth_time() -> None:
    done = run("publish.file:3=kill", "for i in range(5): print(i, flush=True); reached('publish.file')")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]


def test_other_steps_go_by() -> None:
    assert run("publish.file=kill", "reached('publish.end')").returncode == 0


@pytest.mark.parametrize(
    ("process", "number", "strikes"),
    [
        ("supervisor", None, True),
        ("supervisor", 0, False),
        ("worker", None, False),
        ("worker", 3, True),
        ("worker-1", 1, True),
        ("worker-1", 11, False),
    ],
)
def test_a_rule_may_be_for_one_process(process: str, number: int | None, strikes: bool) -> None:
    code = "" if number is None else f"become_worker({number})\n"
    done = run(f"blob.written@{process}=raise", code + "reached('blob.written')")
    assert ("InjectedFaultError: injected at step blob.written" in done.stderr) == strikes


def test_a_marker_makes_a_rule_strike_once_over_all_processes(tmp_path: Path) -> None:
    fault, code = "blob.written=kill,publish.end=raise", "reached('blob.written'); reached('publish.end')"
    assert run(fault, code, tmp_path / "struck").returncode == -signal.SIGKILL
    assert "InjectedFaultError" in run(fault, code, tmp_path / "struck").stderr
    assert run(fault, code, tmp_path / "struck").returncode == 0
    assert (tmp_path / "struck.0").read_text().startswith("blob.written supervisor ")


def test_kill_parent_and_kill_child() -> None:
    child = "import subprocess, sys, time\n"
    inner = "from ostinato.state.steps import reached; reached('blob.written')"
    code = child + f"subprocess.run([sys.executable, '-c', {inner!r}]); time.sleep(20)"
    assert run("blob.written=kill-parent", code).returncode == -signal.SIGKILL
    code = child + (
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])\n"
        "reached('checkpoint.begin'); sys.exit(-child.wait())"
    )
    assert run("checkpoint.begin=kill-child", code).returncode == signal.SIGKILL


def test_sleep_and_stop() -> None:
    done = run(
        "blob.written=sleep 0.3",
        "import time; t = time.monotonic(); reached('blob.written'); print(time.monotonic() - t)",
    )
    assert 0.3 <= float(done.stdout) < 5
    process = subprocess.Popen(
        [sys.executable, "-c", "from ostinato.state.steps import reached; reached('blob.written')"],
        env={**os.environ, VARIABLE: "blob.written=stop"},
    )
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
