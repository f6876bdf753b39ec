"""Scratch space of operators: shared out, deleted at the end, and swept where somebody could not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ostinato.cep.runtime.job import StateBackend
from ostinato.cep.runtime.scratch import Scratch


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_memory_needs_none(tmp_path: Path) -> None:
    assert Scratch(StateBackend(), 1).spill("logins") is None
    assert list(tmp_path.iterdir()) == []


def test_it_is_deleted_with_its_owner(tmp_path: Path) -> None:
    scratch = Scratch(StateBackend("rocksdb", None, 64 << 20), 2)
    spill = scratch.spill("logins")
    assert spill is not None
    assert spill.memory_bytes == 8 << 20
    assert len(list(tmp_path.iterdir())) == 1
    spill.close()
    del scratch
    assert list(tmp_path.iterdir()) == []


def test_what_the_killed_left_is_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f"ostinato-state-{gone.pid}-abc"
    used = tmp_path / f"ostinato-state-{os.getppid()}-abc"
    other = tmp_path / "ostinato-state-mine"
    for folder in (left, used, other):
        folder.mkdir()
        (folder / "CURRENT").touch()
    scratch = Scratch(StateBackend("rocksdb"), 1)
    assert not left.exists()
    assert used.exists()
    assert other.exists()
    del scratch
