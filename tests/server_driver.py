"""Real servers for tests: the installed command in a process of its own, spoken to over HTTP, struck when it pleases.

Every process of a server carries a name in its environment that no other has, so none is left behind.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ostinato.server.journal import Entry, JournalReader
from ostinato.server.journal.format import segment_name
from ostinato.server.journal.segments import bases, read_header
from ostinato.state.steps import MARKER_VARIABLE, VARIABLE
from tests.faults.driver import COMMAND, NAME_VARIABLE, eventually, kill, processes_named

T = TypeVar("T")

_GUARD = ("setpriv", "--pdeathsig", "KILL")
"""Not even a test process that is killed leaves a server behind."""
_READY_SECONDS = 90.0
"""A first start compiles kernels."""
NDJSON = {"content-type": "application/x-ndjson"}


class Server:
    """A server over a data directory, to be started as often as it dies.

    Attributes:
        data: its data directory.
        settings: of every start, ``section__key``.
        url: where it listens, in every start the same.
        sent: the position behind the last events that `send` has had taken.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        """`folder`: of this server alone."""
        self.folder = folder
        self.data = folder / "data"
        self.settings = dict(settings)
        self.starts = 0
        self.sent = 0
        self._name = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._marks = 0
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "runtime").mkdir(mode=0o700, exist_ok=True)

    # Its life

    def launch(self, fault: str = "", prefix: Sequence[str] = (), **settings: object) -> None:
        """Start it and do not wait. `fault`: `OSTINATO_FAULT`, each of its rules strikes once; `prefix`: a command that
        is to run it."""
        assert not self.alive
        own = {NAME_VARIABLE: self._name, "OSTINATO_RUNTIME_DIR": str(self.folder / "runtime"), "COLUMNS": "200"}
        for name, value in {"log__format": "text", **self.settings, **settings}.items():
            text = ",".join(value) if isinstance(value, list) else value
            own[f"OSTINATO__{name.upper()}"] = text if isinstance(text, str) else json.dumps(text)
        if fault:
            self._marks += 1
            own |= {VARIABLE: fault, MARKER_VARIABLE: str(self.folder / f"struck-{self._marks}")}
        arguments = ("server", "--data-dir", str(self.data), "--port", str(self._port))
        with (self.folder / f"log-{self.starts}").open("wb") as log:
            self._process = subprocess.Popen(
                [*_GUARD, *prefix, COMMAND, *arguments],
                cwd=self.folder,
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self.starts += 1

    def start(self, fault: str = "", prefix: Sequence[str] = (), **settings: object) -> None:
        """Start it, and wait until it is ready."""
        self.launch(fault, prefix, **settings)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        eventually(self.is_ready, "the server to be ready", _READY_SECONDS, 0.02, self.check_alive)
        self.client.headers["authorization"] = f"Bearer {self.token}"

    def is_ready(self) -> bool:
        try:
            return self.client.get("/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def check_alive(self) -> None:
        assert self.alive, f"the server has ended; it said:\n{self.said}"

    def wait_for(
        self, holds: Callable[[], T | None], what: str, seconds: float = _READY_SECONDS, *, ended: bool = False
    ) -> T:
        """Wait until something is true; `ended`: also when the server has ended."""
        return eventually(holds, what, seconds, 0.02, (lambda: None) if ended else self.check_alive)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def worker(self) -> int | None:
        """The live worker's process; None while there is none."""
        for pid in processes_named(self._name):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"ostinato.server.live.worker_main" in line:
                return pid
        return None

    @property
    def token(self) -> str:
        return (self.data / "token").read_text(encoding="ascii").strip()

    @property
    def said(self) -> str:
        """What the last start has written."""
        return (self.folder / f"log-{self.starts - 1}").read_text(errors="replace")

    def struck(self, rule: int = 0) -> bool:
        """Has a rule of the last fault struck?"""
        return (self.folder / f"struck-{self._marks}.{rule}").exists()

    def kill(self) -> None:
        """SIGKILL; its worker ends with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        eventually(lambda: not processes_named(self._name), "its processes to end", 30, 0.005)

    def kill_worker(self) -> None:
        """SIGKILL to the live worker, once there is one."""
        eventually(lambda: (pid := self.worker) is not None and kill(pid), "a live worker", unless=self.check_alive)

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server still runs after {seconds:.0f} s; it said:\n{self.said}") from None

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def restart(self, fault: str = "") -> None:
        """End it in good order, and start it again."""
        self.stop()
        self.start(fault)

    def close(self) -> None:
        """Leave nothing behind."""
        self.client.close()
        if self._process is not None and self.alive:
            self._process.kill()
        if self._process is not None:
            self._process.wait(30)

        def gone() -> bool:
            left = processes_named(self._name)
            for pid in left:
                kill(pid)
            return not left

        eventually(gone, "its processes to end", 30, 0.02)

    # What is asked of it

    def apply(self, text: str, **query: str) -> dict[str, Any]:
        """Make what a file declares so; fails where it is refused."""
        answer = self.client.post("/v1/apply", params=query, content=text, headers=_TEXT, timeout=90)
        made: dict[str, Any] = self._ok(answer)
        return made

    def send(self, stream: str, events: Sequence[Mapping[str, Any]], key: str | None = None) -> dict[str, Any]:
        """Send events; fails where they are refused."""
        receipt: dict[str, Any] = self._ok(self.post(stream, events, key))
        self.sent = max(self.sent, receipt["next"])
        return receipt

    def post(self, stream: str, events: Sequence[Mapping[str, Any]], key: str | None = None) -> httpx.Response:
        headers = NDJSON if key is None else {**NDJSON, "idempotency-key": key}
        return self.client.post(f"/v1/streams/{stream}/events", content=ndjson(events), headers=headers)

    def get(self, path: str, **query: object) -> Any:
        return self._ok(self.client.get(path, params={name: str(value) for name, value in query.items()}))

    def put(self, path: str, value: object) -> Any:
        return self._ok(self.client.put(path, json=value))

    def matches(self, **query: object) -> list[dict[str, Any]]:
        """All rows of the match log."""
        rows: list[dict[str, Any]] = []
        while True:
            page = self.get("/v1/matches", limit=1000, after=rows[-1]["seq"] if rows else 0, **query)
            if not page["items"]:
                return rows
            rows += page["items"]

    def caught_up(self) -> int:
        """Wait until the worker has dealt with all that this driver has sent; the number of the last row."""
        found: dict[str, Any] = {}

        def there() -> bool:
            found.update(self.get("/v1/server"))
            return (found["journal_position"] or 0) >= self.sent

        eventually(there, f"the worker to come to {self.sent}", unless=self.check_alive)
        return int(found["match_seq"] or 0)

    @staticmethod
    def _ok(answer: httpx.Response) -> Any:
        assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


_TEXT = {"content-type": "text/plain"}


@contextmanager
def servers(folder: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers in folders of their own, which are gone at the end."""
    made: list[Server] = []

    def make(**settings: object) -> Server:
        made.append(Server(folder / f"server-{len(made)}", **settings))
        return made[-1]

    try:
        yield make
    finally:
        for server in made:
            server.close()


MakeServer = Callable[..., Server]


class Follower(threading.Thread):
    """Follows the matches by server-sent events, and connects again where it was, as a browser does.

    Attributes:
        events: kind and object of each event, in the order in which they came; not those of heartbeats.
        connections: how often it has connected.
    """

    def __init__(self, server: Server, query: str = "") -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.connections = 0
        self.last_id = "0"
        self._server = server
        self._query = query
        self._ended = threading.Event()

    @property
    def seqs(self) -> list[int]:
        """The numbers that have come, in their order."""
        return [row["seq"] for _, row in list(self.events) if "seq" in row]

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=httpx.Timeout(30, read=0.5)) as client:
            while not self._ended.is_set():
                try:
                    self._follow(client)
                except (httpx.TransportError, OSError):
                    time.sleep(0.02)

    def _follow(self, client: httpx.Client) -> None:
        headers = {"authorization": f"Bearer {self._server.token}", "last-event-id": self.last_id}
        with client.stream("GET", f"{self._server.url}/v1/matches/stream{self._query}", headers=headers) as answer:
            if answer.status_code != 200:
                time.sleep(0.02)
                return
            self.connections += 1
            number, kind, data = "", "", ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    number = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif not line:
                    # whole, or it does not count: it comes again behind the last id
                    if data:
                        self.events.append((kind, json.loads(data)))
                    if number:
                        self.last_id = number
                    number, kind, data = "", "", ""
                if self._ended.is_set():
                    return

    def close(self) -> None:
        self._ended.set()
        self.join(30)


def ndjson(events: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def journal_entries(folder: Path) -> list[Entry]:
    """All that a journal holds, whose server does not run."""
    base = bases(folder)[-1]
    path = folder / segment_name(base)
    with path.open("rb") as file:
        header = read_header(folder, base, file.fileno())
    end = base + path.stat().st_size - header.size
    with JournalReader(folder, bases(folder)[0]) as reader:
        return reader.read(end, 1 << 40)


def free_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
