"""What earlier releases have stored can be read for ever.

``tests/fixtures/state/directory-v1`` was written by the first release with `tests.stored.write_example`. A release that
changes a format adds a folder, and changes none.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from ostinato.state import manifest as manifests
from ostinato.state.blobs import Stored
from ostinato.state.stores import open_store
from ostinato.state.stores.base import CheckpointStore
from ostinato.state.stores.directory import DirectoryStore
from tests.stored import EXAMPLE, HEADER, read_checkpoint, write_checkpoint, write_example

FIXTURES = Path(__file__).parents[2] / "fixtures" / "state"
VERSIONS = sorted(path.name for path in FIXTURES.glob("directory-v*"))


@pytest.fixture(params=[*VERSIONS, "this release"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy, which may be written."""
    target = tmp_path / "checkpoints"
    if request.param in VERSIONS:
        shutil.copytree(FIXTURES / request.param, target)
    else:
        with closing(DirectoryStore(target, "logins")) as store:
            store.acquire("the test")
            write_example(store)
    return target


def test_the_first_release_is_among_them() -> None:
    assert "directory-v1" in VERSIONS


def test_all_checkpoints_can_be_read(folder: Path) -> None:
    with closing(open_store(str(folder), job="logins")) as store:
        assert [(entry.id, entry.savepoint) for entry in store.entries()] == [
            (4, True),
            (3, False),
            (2, False),
            (1, False),
        ]
        for number, expected in EXAMPLE.items():
            assert read_checkpoint(store, number) == expected
        assert shared(store, 2) == [b"waiting 2"]
        assert shared(store, 3) == []


def test_manifests_say_the_same(folder: Path) -> None:
    with closing(open_store(str(folder), job="logins")) as store:
        found = manifests.decode(store.manifest(3), "checkpoint 3")
    assert (found.job, found.id, found.savepoint, found.version) == ("logins", 3, False, 1)
    assert (found.program, found.parallelism, found.key_groups) == ("program", 1, 128)
    assert found.taken_at == 1_700_000_000_003
    assert found.operators["match"].header == HEADER
    assert [piece.whole for piece in found.operators["match"].groups[3]] == [True, False]


def test_a_savepoint_alone_can_be_read(folder: Path, tmp_path: Path) -> None:
    (folder / "sp-4").rename(tmp_path / "elsewhere")
    with closing(open_store(str(tmp_path / "elsewhere"), job="")) as store:
        assert read_checkpoint(store, 4) == EXAMPLE[4]


def test_a_job_goes_on_from_there(folder: Path) -> None:
    with closing(DirectoryStore(folder, "logins")) as store:
        store.acquire("the test")
        before = manifests.decode(store.manifest(3), "checkpoint 3")
        write_checkpoint(store, 5, {3: {b"bob": b""}}, before=before, whole=False)
        assert read_checkpoint(store, 5) == {3: {b"dan": b"2"}, 77: EXAMPLE[3][77]}


def shared(store: CheckpointStore, number: int) -> list[bytes]:
    found = manifests.decode(store.manifest(number), f"checkpoint {number}")
    return list(Stored("match", found.operators["match"], found.blobs, store, range(128)).shared)
