"""`ostinato state`: looking into the checkpoints of real jobs."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import LOGINS, START_MS, Folder, lines, login
from tests.services import RedisServer
from tests.stored import write_checkpoint


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Path:
    """The checkpoints of a job that was stopped while ada had failed twice and bob once."""
    folder = Folder(tmp_path_factory.mktemp("job"), bytecode)
    events = [login("ada", 0, "FAILED"), login("ada", 1, "FAILED", ip="10.9.9.9"), login("bob", 2, "FAILED")]
    folder.write("logins.cep", LOGINS)
    folder.write("logins.jsonl", lines([*events, login("eve", 60, "SUCCESS")]))
    options = ("--checkpoint-dir", "checkpoints", "--interval", "100ms", "-o", "alerts.jsonl")
    job = folder.start("run", "logins.cep", "--follow", "--input", "logins.jsonl", *options)
    until = time.monotonic() + 60
    while not list(folder.path.glob("checkpoints/chk-[2-9]*")) and job.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=60)
    assert list(folder.path.glob("checkpoints/chk-*")), said.decode()
    return folder.path / "checkpoints"


@pytest.fixture
def stored(folder: Folder, taken: Path) -> Folder:
    """A folder with them in it, to do with as one likes."""
    shutil.copytree(taken, folder.path / "checkpoints")
    return folder


def test_a_store_is_listed(stored: Folder) -> None:
    found = stored.run("state", "ls", "checkpoints")
    assert found.code == 0
    head, newest, *_ = found.out.splitlines()
    assert head.split() == ["checkpoint", "job", "taken", "age", "size", "operators", "workers"]
    assert newest.startswith("chk-")
    assert " logins " in newest
    listed = json.loads(stored.run("state", "ls", "checkpoints", "--json").out)
    assert listed[0]["operators"] == ["logins"]
    assert listed[0]["bytes"] > 0
    assert [entry["id"] for entry in listed] == sorted((entry["id"] for entry in listed), reverse=True)


def test_a_checkpoint_is_listed_by_operator_and_key_group(stored: Folder) -> None:
    newest = sorted(stored.path.glob("checkpoints/chk-*"), key=lambda path: int(path.name[4:]))[-1]
    found = stored.run("state", "ls", str(newest), "--groups")
    assert found.code == 0
    assert "source logins, split 0: " in found.out
    assert any(line.split()[:3] == ["logins", "match", "2"] for line in found.out.splitlines())
    inside = json.loads(stored.run("state", "ls", f"checkpoints#{newest.name}", "--json").out)["operators"]["logins"]
    assert (inside["kind"], inside["keys"]) == ("match", 2)
    groups = inside["groups"].values()
    assert sum(group["keys"] for group in groups) == 2
    assert inside["bytes"] == inside["shared_bytes"] + sum(group["bytes"] for group in groups)
    assert all(group["chain"] >= 1 for group in groups)


def test_one_key_is_shown(stored: Folder) -> None:
    found = stored.run("state", "show", "checkpoints", "--key", "ada")
    assert found.code == 0
    head, _, body = found.out.partition("\n")
    assert head.startswith("operator logins, key group ")
    state = json.loads(body)
    assert state["key"] == {"user": "ada"}
    times = [event["time"] for event in state["partial_matches"][0]["events"]]
    assert times == [START_MS, START_MS + 1000]
    (same,) = json.loads(stored.run("state", "show", "checkpoints", "--key", "ada", "--json").out)
    assert same["operator"] == "logins"
    assert same["key"] == {"user": "ada"}


def test_a_key_without_state_is_an_error(stored: Folder) -> None:
    found = stored.run("state", "show", "checkpoints", "--key", "nobody")
    assert found.code == 7
    assert found.err.startswith("ostinato: no operator has state of key nobody in checkpoint ")


def test_all_is_exported_a_line_each(stored: Folder) -> None:
    found = stored.run("state", "export", "checkpoints")
    assert found.code == 0
    assert sorted(row["key"]["user"] for row in found.rows) == ["ada", "bob"]
    assert {row["operator"] for row in found.rows} == {"logins"}
    assert stored.run("state", "export", "checkpoints", "--operator", "logins").out == found.out
    other = stored.run("state", "export", "checkpoints", "--operator", "payments")
    assert other.code == 7
    assert "has no operator payments; it has: logins" in other.err


def test_copied_into_redis_and_back(stored: Folder, redis: RedisServer) -> None:
    to_redis = stored.run("state", "copy", "checkpoints", redis.address)
    assert to_redis.code == 0, to_redis.err
    assert to_redis.out.strip() == f"{redis.address}#logins/sp-1"
    listed = stored.run("state", "ls", redis.address)
    assert "sp-1" in listed.out
    back = stored.run("state", "copy", to_redis.out.strip(), "elsewhere")
    assert back.out.strip() == str(stored.path / "elsewhere" / "sp-1")
    (stored.path / "elsewhere" / "sp-1").rename(stored.path / "moved")
    assert stored.run("state", "export", "moved").out == stored.run("state", "export", "checkpoints").out


def test_damage_is_named(stored: Folder) -> None:
    newest = sorted(stored.path.glob("checkpoints/chk-*"), key=lambda path: int(path.name[4:]))[-1]
    data = bytearray((newest / "manifest").read_bytes())
    data[40] ^= 1
    (newest / "manifest").write_bytes(data)
    listed = stored.run("state", "ls", "checkpoints")
    assert listed.code == 0
    assert "is damaged: its checksum does not fit" in listed.out
    shown = stored.run("state", "export", "checkpoints")
    assert shown.code == 7
    assert shown.err.startswith(f"ostinato: checkpoint {newest.name[4:]} in ")
    assert "is damaged" in shown.err


def test_records_of_a_kind_that_nobody_knows_are_shown_as_they_are(folder: Folder) -> None:
    from ostinato.state.stores.directory import DirectoryStore

    store = DirectoryStore(folder.path / "checkpoints", "logins")
    store.acquire("the test")
    write_checkpoint(store, 1, {3: {b"ada": b"\x00\x01"}})
    store.close()
    found = folder.run("state", "show", "checkpoints", "--key", "ada", "--json")
    assert json.loads(found.out) == [
        {
            "operator": "match",
            "key_group": 3,
            "bytes": 5,
            "key": {"base64": "YWRh"},
            "value": {"base64": "AAE="},
        }
    ]


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("nowhere", 7, "there is no directory"),
        (".", 7, "has no checkpoints in it"),
        ("redis://127.0.0.1:1/0", 7, "redis://127.0.0.1:1/0 cannot be reached"),
        ("redis://ada:s3cret@127.0.0.1:1/0", 7, "redis://ada:***@127.0.0.1:1/0 cannot be reached"),
        ("s3://bucket", 2, "is no address of a checkpoint store"),
    ],
)
def test_what_is_no_store_is_said(folder: Folder, address: str, code: int, said: str) -> None:
    found = folder.run("state", "ls", address)
    assert found.code == code
    assert said in found.err
    assert "s3cret" not in found.err
    assert len(found.err.splitlines()) == 1 or code == 2


def test_help_is_quick_to_read(folder: Folder) -> None:
    found = folder.run("state", "--help")
    assert found.code == 0
    for command in ("ls", "show", "export", "copy"):
        assert f"\n  {command} " in found.out
