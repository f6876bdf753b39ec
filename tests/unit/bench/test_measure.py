"""What the benchmark measures of a process is true of that process."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = Path(__file__).parents[3] / "bench" / "measure.py"
measure = runpy.run_path(str(MEASURE))
MIB = 1 << 20


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_output_and_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    measured = measure["run"](python("import time; time.sleep(0.3); print('done')"), out)
    assert out.read_text() == "done\n"
    assert 0.3 <= measured.wall_s < 20
    assert measured.cpu_s < measured.wall_s
    assert measured.first_output_s is None


def test_first_output_comes_before_the_end(tmp_path: Path) -> None:
    code = "import time; print('first', flush=True); time.sleep(0.5); print('last')"
    measured = measure["run_watched"](python(code), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "first\nlast\n"
    assert measured.first_output_s <= measured.wall_s - 0.5


def test_peak_memory_is_of_this_process_alone(tmp_path: Path) -> None:
    """Looked at from a small process: on Linux a child's peak begins with its parent's size."""
    code = f"""
import runpy, sys, pathlib
measure = runpy.run_path({str(MEASURE)!r})
for wasted in (200, 0):
    command = [sys.executable, "-S", "-c", f"x = bytearray(b'x') * ({{wasted}} << 20)"]
    print(measure["run"](command, pathlib.Path({str(tmp_path / "out")!r})).peak_bytes)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    large, small = map(int, done.stdout.split())
    assert large > 200 * MIB
    assert small < 100 * MIB


def test_failure_shows_what_the_process_said(tmp_path: Path) -> None:
    with pytest.raises(measure["BenchError"], match=r"ended with 3\ncannot"):
        measure["run"](python("import sys; print('cannot', file=sys.stderr); sys.exit(3)"), tmp_path / "out")


def test_environment_is_added_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    measure["run"](python("import os; print(os.environ['MORE'], len(os.environ) > 1)"), out, {"MORE": "yes"})
    assert out.read_text() == "yes True\n"
