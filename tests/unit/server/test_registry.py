"""The folder of running jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.server.registry import Registration, RegistryError, runtime_folder, sweep


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSTINATO_RUNTIME_DIR", str(tmp_path / "run"))
    return runtime_folder()


def register(folder: Path, name: str) -> Registration:
    made = Registration(folder, name=name, parallelism=2, program=f"{name}.cep", checkpoints=None)
    made.publish()
    return made


def test_where_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSTINATO_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path / "ostinato"
    assert (tmp_path / "ostinato").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("OSTINATO_RUNTIME_DIR", str(tmp_path / "a" / "b"))
    assert runtime_folder() == tmp_path / "a" / "b"


def test_a_folder_that_others_can_use_is_refused(folder: Path) -> None:
    folder.chmod(0o750)
    with pytest.raises(RegistryError, match="yours alone"):
        runtime_folder()


def test_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("OSTINATO_RUNTIME_DIR", str(tmp_path / "link"))
    with pytest.raises(RegistryError, match="yours alone"):
        runtime_folder()


def test_a_job_is_listed_while_it_lives(folder: Path) -> None:
    first, second = register(folder, "one"), register(folder, "two")
    assert {entry.name for entry in sweep(folder)} == {"one", "two"}
    assert next(entry for entry in sweep(folder) if entry.name == "one") == first.entry
    first.close()
    assert [entry.name for entry in sweep(folder)] == ["two"]
    second.close()
    assert list(folder.iterdir()) == []


DYING = """
import os, sys
from pathlib import Path
from ostinato.server.registry import Registration
job = Registration(Path(sys.argv[1]), name="gone", parallelism=1, program="gone.cep", checkpoints=None)
job.socket_path.touch()
if sys.argv[2] == "listed":
    job.publish()
print(job.entry.id, flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_job_has_left_is_swept(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(folder), "listed"], stdout=subprocess.PIPE, check=False)
    id_ = done.stdout.decode().strip()
    assert (folder / f"{id_}.json").exists()
    assert sweep(folder) == []
    assert list(folder.iterdir()) == []


def test_what_was_killed_before_it_was_listed_is_swept_after_a_while(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(folder), "draft"], stdout=subprocess.PIPE, check=False)
    draft = folder / f".{done.stdout.decode().strip()}"
    assert sweep(folder) == []
    assert draft.exists()
    os.utime(draft, (0, 0))
    living = Registration(folder, name="slow", parallelism=1, program="slow.cep", checkpoints=None)
    os.utime(folder / f".{living.entry.id}", (0, 0))
    sweep(folder)
    assert not draft.exists()
    living.publish()
    assert [entry.name for entry in sweep(folder)] == ["slow"]
    living.close()
    assert list(folder.iterdir()) == []
