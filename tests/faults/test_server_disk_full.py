"""The disk of a server is full, for each thing that it keeps: nothing acknowledged is lost, it says what is wrong, and
goes on when there is room."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.driver import eventually
from tests.server_driver import Server, servers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(100)]

_FILE = (
    "stream logins (user string key, ts timestamp(ms) time delay 1 s, n bigint)\n"
    "pattern every on logins match a emit user, a.n as n\n"
)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room; the file that takes it."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


class Sender:
    """Sends batches, and knows which were acknowledged."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.acknowledged: list[int] = []
        self.refused = 0

    def send(self, count: int = 50) -> bool:
        first = len(self.acknowledged)
        events = [{"user": "u", "ts": n * 10, "n": n} for n in range(first, first + count)]
        try:
            answer = self.server.post("logins", events)
        except httpx.TransportError:
            return False
        if answer.status_code == 200:
            self.server.sent = answer.json()["next"]
            self.acknowledged += range(first, first + count)
            return True
        assert answer.status_code == 503, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        self.refused += 1
        return False

    def judge(self) -> None:
        """Each acknowledged event has given its match, once."""
        self.server.send("logins", [{"user": "end", "ts": 10**9, "n": -1}])
        self.server.send("logins", [{"user": "end", "ts": 10**10, "n": -2}])
        self.server.caught_up()
        rows = self.server.matches()
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        found = [row["row"]["n"] for row in rows if row["pattern"] == "every"]
        assert [n for n in found if n >= 0] == self.acknowledged


def unready(server: Server, word: str) -> bool:
    answer = server.client.get("/readyz")
    return answer.status_code == 503 and word in answer.text


@pytest.mark.parametrize("what", ["journal", "matches", "checkpoints", "all"])
def test_the_disk_is_full(tmp_path: Path, small: Path, what: str) -> None:
    with servers(tmp_path) as make:
        server: Server = make(checkpoints__interval="100ms")
        server.data.mkdir(mode=0o700)
        (small / "data").mkdir(mode=0o700)
        if what == "all":
            server.data.rmdir()
            server.data = small / "data"
        else:
            (server.data / what).symlink_to(small / "data")
        server.start()
        server.apply(_FILE)
        sender = Sender(server)
        for _ in range(10):
            assert sender.send()
        server.caught_up()
        filler = fill(small)
        for _ in range(100):
            sender.send()
        time.sleep(1.0)
        if what in ("journal", "all"):
            assert sender.refused, "it cannot have been taken: there was no room"
        assert server.client.get("/healthz").status_code == 200
        assert "o space left" in server.client.get("/readyz").text + server.said, "nobody says what is wrong"
        if what != "journal":
            eventually(lambda: server.client.get("/readyz").status_code == 503, "it to say that it is not well", 20)
        # a change cannot be made, or is made as a whole
        text, kind = "pattern other on logins match a b", {"content-type": "text/plain"}
        changed: httpx.Response | None = None
        with contextlib.suppress(httpx.ReadTimeout):  # the worker may be waiting for room
            changed = server.client.put("/v1/patterns/other", content=text, headers=kind, timeout=5)
            assert changed.status_code in (200, 201, 422, 503), changed.text
        filler.unlink()
        eventually(server.is_ready, "it to be well again", 60, unless=server.check_alive)
        eventually(sender.send, "it to take events again", 30)
        server.apply("pattern another on logins match a b c")
        listed = {item["name"] for item in server.get("/v1/patterns")["items"]}
        assert changed is None or ("other" in listed) == changed.is_success
        sender.judge()
        server.kill()
        server.start()
        sender.judge()
        assert {item["name"] for item in server.get("/v1/patterns")["items"]} == listed
