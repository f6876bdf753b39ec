"""Files of matches: every line once, wherever the server was cut off."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from ostinato.server.delivery.cursors import FileCursors
from ostinato.server.delivery.errors import OutputError
from ostinato.server.delivery.settings import check_settings, parse_settings
from ostinato.state.steps import VARIABLE
from tests.outputs import append, context, running, until

SETTINGS: Mapping[str, Any] = {"type": "file", "path": "alerts.ndjson"}


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(cast("Any", test()))


def written(folder: Path, name: str = "alerts.ndjson") -> list[int]:
    return [orjson.loads(line)["seq"] for line in (folder / "out" / name).read_bytes().splitlines()]


async def deliver(folder: Path, last: int) -> None:
    async with running(folder, SETTINGS) as output:
        await output.done(last)


def test_lines_of_json(tmp_path: Path) -> None:
    async def body() -> None:
        await deliver(tmp_path, append(tmp_path, 30))
        await deliver(tmp_path, append(tmp_path, 5))

    run(body)
    assert written(tmp_path) == list(range(1, 36))
    first = (tmp_path / "out/alerts.ndjson").read_bytes().split(b"\n")[0]
    assert orjson.loads(first)["row"] == {"n": 1, "k": "k1"}


@pytest.mark.parametrize("store_is_behind", [True, False])
def test_cut_at_every_point(tmp_path: Path, store_is_behind: bool) -> None:
    """Whatever stands behind the recorded length when the server ends, each line is there once when it is back."""
    path, note = tmp_path / "out/alerts.ndjson", tmp_path / "outputs/out.file"

    async def body() -> None:
        await deliver(tmp_path, append(tmp_path, 4))
        before, noted = path.read_bytes(), note.read_bytes()
        last = append(tmp_path, 3)
        await deliver(tmp_path, last)
        whole = path.read_bytes()
        for end in [*range(len(before), len(whole) + 1, 7), len(whole)]:
            # in place: another inode would be another file
            with path.open("r+b") as file:
                file.truncate(0)
                file.write(whole[:end])
            note.write_bytes(noted)
            if store_is_behind:
                FileCursors(tmp_path / "cursors").put({"out": 2})
            else:
                FileCursors(tmp_path / "cursors").put({"out": 4})
            await deliver(tmp_path, last)
            assert path.read_bytes() == whole

    run(body)


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.outputs import *
async def main():
    async with running(Path(sys.argv[1]), {"type": "file", "path": "alerts.ndjson"}) as output:
        for seq in range(5, int(sys.argv[2]) + 1, 5):
            await output.done(append(Path(sys.argv[1]), 5)) if seq > output.status.cursor else None
asyncio.run(main())
"""


def test_kills_at_every_step(tmp_path: Path) -> None:
    codes = []
    for fault in ("output.synced:2=kill", "output.sent:2=kill", "output.moved:1=kill", "output.synced:1=kill", ""):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), "40"],
            cwd=Path(__file__).parents[3], env={**os.environ, VARIABLE: fault}, timeout=60, check=False,
            capture_output=True,
        )  # fmt: skip
        codes.append(done.returncode)
    assert codes == [-signal.SIGKILL] * 4 + [0], done.stderr.decode()
    seqs = written(tmp_path)
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= 40


def test_a_file_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "out/alerts.ndjson"
        path.parent.mkdir()
        path.write_bytes(b'{"of":"somebody else"}')  # without an end of line
        await deliver(tmp_path, append(tmp_path, 2))
        lines = path.read_bytes().splitlines()
        assert lines[0] == b'{"of":"somebody else"}'
        assert [orjson.loads(line)["seq"] for line in lines[1:]] == [1, 2]
        assert path.read_bytes().endswith(b"\n")

    run(body)


def test_a_file_that_is_moved_away_is_begun_again(tmp_path: Path) -> None:
    """As logrotate does it."""

    async def body() -> None:
        async with running(tmp_path, SETTINGS) as output:
            await output.done(append(tmp_path, 3))
            (tmp_path / "out/alerts.ndjson").rename(tmp_path / "out/alerts.1")
            await output.done(append(tmp_path, 3))
            assert (written(tmp_path, "alerts.1"), written(tmp_path)) == ([1, 2, 3], [4, 5, 6])
        (tmp_path / "out/alerts.ndjson").rename(tmp_path / "out/alerts.2")
        await deliver(tmp_path, append(tmp_path, 2))
        assert written(tmp_path) == [7, 8]

    run(body)


def test_a_file_that_was_cut_goes_on_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        await deliver(tmp_path, append(tmp_path, 3))
        os.truncate(tmp_path / "out/alerts.ndjson", 0)
        await deliver(tmp_path, append(tmp_path, 2))

    run(body)
    assert written(tmp_path) == [4, 5]
    assert "somebody has cut it" in caplog.text


def test_two_outputs_do_not_write_one_file(tmp_path: Path) -> None:
    async def body() -> None:
        last = append(tmp_path, 2)
        async with running(tmp_path, SETTINGS) as output:
            await output.done(last)
            await output.deliveries.put("other", parse_settings(SETTINGS))
            output.deliveries.grown(append(tmp_path, 1))
            await until(lambda: output.deliveries.statuses()["other"].state == "failed")
            assert "has locked it" in str(output.deliveries.statuses()["other"].error)
            await output.done(3)

    run(body)
    assert written(tmp_path) == [1, 2, 3]


def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    import resource

    async def body() -> None:
        async with running(tmp_path, SETTINGS) as output:
            await output.done(append(tmp_path, 200))
            last = append(tmp_path, 3)
            size = (tmp_path / "out/alerts.ndjson").stat().st_size
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)
            handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, limit[1]))
            try:
                output.deliveries.grown(last)
                await until(lambda: output.status.attempts > 1)
                assert output.status.state == "retrying"
                assert output.status.cursor == 200
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limit)
                signal.signal(signal.SIGXFSZ, handler)
            await output.done(last)

    run(body)
    assert written(tmp_path) == list(range(1, 204))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../x.ndjson", "is outside of"),
        ("/etc/passwd", "is outside of"),
        ("link/x.ndjson", "is outside of"),
        (".", "is outside of"),
        ("folder", "is a folder"),
        ("a\0b", "is none"),
    ],
)
def test_paths_that_are_refused(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "out/folder").mkdir(parents=True)
    (tmp_path / "out/link").symlink_to("/tmp")
    with pytest.raises(OutputError, match=said):
        check_settings("out", parse_settings({"type": "file", "path": path}), context(tmp_path))


def test_without_folders_there_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"files\.write"):
        check_settings("out", parse_settings(SETTINGS), context(tmp_path, write_folders=()))


@pytest.mark.parametrize("what", ["link", "fifo"])
def test_what_becomes_something_else_is_not_written_to(tmp_path: Path, what: str) -> None:
    async def body() -> None:
        path = tmp_path / "out/alerts.ndjson"
        last = append(tmp_path, 2)
        async with running(tmp_path, {**SETTINGS, "paused": True}) as output:
            path.parent.mkdir()
            if what == "link":
                (tmp_path / "victim").write_bytes(b"")
                path.symlink_to(tmp_path / "victim")
            else:
                os.mkfifo(path)
            output.deliveries.resume("out")
            output.deliveries.grown(last)
            await until(lambda: output.status.state in ("failed", "retrying"))
            assert output.status.error is not None
            if what == "link":
                assert (tmp_path / "victim").read_bytes() == b""

    run(body)


def test_a_damaged_note_is_refused(tmp_path: Path) -> None:
    async def body() -> None:
        await deliver(tmp_path, append(tmp_path, 2))
        (tmp_path / "outputs/out.file").write_bytes(b"{")
        async with running(tmp_path, SETTINGS) as output:
            await until(lambda: output.status.state == "failed")
            assert "without it nobody knows" in str(output.status.error)
            assert written(tmp_path) == [1, 2]

    run(body)


def test_somebody_elses_lock_is_said(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "out/alerts.ndjson"
        path.parent.mkdir()
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            async with running(tmp_path, SETTINGS) as output:
                await until(lambda: output.status.state == "failed")
                fcntl.flock(file, fcntl.LOCK_UN)
                output.deliveries.resume("out")
                await output.done(append(tmp_path, 2))
        assert written(tmp_path) == [1, 2]

    run(body)
