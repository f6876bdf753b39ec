"""A real server that is abused: what it refuses it refuses soon and by name, and everything else goes on."""

from __future__ import annotations

import asyncio
import gzip
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ostinato.server import exits
from tests.faults.driver import eventually, resident_bytes
from tests.http_api import is_problem
from tests.server_driver import NDJSON, Server, ndjson, servers

pytestmark = pytest.mark.timeout(100)

_SOON_SECONDS = 5.0
"""A second on a machine that has nothing else to do."""
STREAM = "stream logins (user string key, ts timestamp(ms) time delay 1 s, n bigint, ok boolean)\n"
_TEXT = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def abused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers(tmp_path_factory.mktemp("abused")) as make:
        server: Server = make(limits__body_bytes="12MiB", limits__decompressed_bytes="16MiB", limits__body_timeout="1s")
        server.start()
        server.apply(STREAM)
        yield server


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with servers(tmp_path) as made:
        yield made


class Pulse(threading.Thread):
    """Asks after a server's health all the time. `worst`: seconds of the slowest answer."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.worst = 0.0
        self._server = server
        self._ended = threading.Event()

    def __enter__(self) -> Pulse:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(30)
        assert not self.is_alive()

    def run(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=30, trust_env=False) as client:
            while True:
                began = time.monotonic()
                assert client.get("/healthz").status_code == 200
                self.worst = max(self.worst, time.monotonic() - began)
                if self._ended.wait(0.02):
                    return


_DEFINE = "pattern p on logins match"
HOSTILE = {
    "ten megabytes": _DEFINE + " a " * (10 << 20 >> 2) + "define a as n > 1",
    "a megabyte of one expression": _DEFINE + " a define a as n > 1" + " + 1" * 200_000,
    "parentheses in a condition": _DEFINE + " a define a as " + "(" * 10_000 + "n > 1" + ")" * 10_000,
    "parentheses around stages": _DEFINE + "(" * 10_000 + "a" + ")" * 10_000,
    "parentheses that are never closed": _DEFINE + " a define a as " + "(" * 100_000,
    "a quantifier": _DEFINE + " a{1000000000} define a as n > 1",
    "a range of a quantifier": _DEFINE + " a{1,1000000000} b",
    "quantifiers in quantifiers": _DEFINE + " " + "(" * 9 + "a" + "){1000}" * 9,
    "ten thousand stages": _DEFINE + " " + " ".join(f"s{number}" for number in range(10_000)),
    "ten thousand alternatives": _DEFINE + " ( " + " | ".join(f"s{number}" for number in range(10_000)) + " )+ z",
    "not not not": _DEFINE + " a define a as " + "not " * 20_000 + "ok",
    "case in case": _DEFINE + " a define a as " + "case when ok then " * 3_000 + "1" + " end" * 3_000 + " = 1",
    "a long number": _DEFINE + " a define a as n > " + "9" * 500_000,
    "a text without an end": _DEFINE + " a define a as user = '" + "x" * 900_000,
    "bytes that are no text": "\x00\x01\ufffe" * 1_000,
    "ten thousand patterns": "".join(f"pattern p{number} on logins match a\n" for number in range(10_000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_patterns_are_refused_soon(abused: Server, name: str) -> None:
    with Pulse(abused) as pulse:
        began = time.monotonic()
        answer = abused.client.post("/v1/apply", content=HOSTILE[name], headers=_TEXT)
        took = time.monotonic() - began
    assert answer.status_code in (400, 409, 413, 422), answer.text[:500]
    assert len(is_problem(answer)["detail"]) < 20_000
    assert took < _SOON_SECONDS
    assert pulse.worst < _SOON_SECONDS
    assert abused.get("/v1/patterns")["items"] == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("".join(f"stream s{n} (k string key) processing time\n" for n in range(10_000)), id="streams"),
        pytest.param(
            "pattern listed on logins match a define a as n in (" + ", ".join(map(str, range(20_000))) + ")", id="list"
        ),
        pytest.param("".join(f"param p{number} = {number}\n" for number in range(10_000)), id="params"),
    ],
)  # fmt: skip
def test_what_is_only_large_is_taken_or_refused_while_others_are_served(abused: Server, text: str) -> None:
    with Pulse(abused) as pulse:
        answer = abused.client.post("/v1/apply?dry_run=true", content=text, headers=_TEXT, timeout=60)
    assert answer.status_code == 200 or is_problem(answer)["status"] in (413, 422)
    assert pulse.worst < _SOON_SECONDS


def _raw(server: Server, head: str, parts: Iterator[bytes], seconds: float = 20.0) -> bytes:
    """Send a request piece by piece, until there is an answer; what was answered."""
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock:
        sock.sendall(
            f"POST /v1/streams/logins/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {server.token}\r\n"
            f"content-type: application/x-ndjson\r\n{head}\r\n\r\n".encode()
        )
        sock.settimeout(0.05)
        deadline = time.monotonic() + seconds
        for part in parts:
            assert time.monotonic() < deadline, "it would go on for ever"
            try:
                if answer := sock.recv(65536):
                    return answer
                raise AssertionError("cut off without an answer")
            except TimeoutError:
                pass
            sock.settimeout(2.0)
            try:
                sock.sendall(part)
            except OSError:
                return b""  # it does not listen any more
            sock.settimeout(0.05)
    raise AssertionError("nothing more to send")


def test_bodies_without_end(abused: Server) -> None:
    """Chunks for ever, and a byte now and then: both are cut off, and nothing of them is taken."""

    def chunks() -> Iterator[bytes]:
        while True:
            yield b"100000\r\n" + b"x" * 0x100000 + b"\r\n"

    def drops() -> Iterator[bytes]:
        while True:
            time.sleep(0.1)
            yield b"{"

    before = abused.get("/v1/server")["journal_position"]
    endless = _raw(abused, "transfer-encoding: chunked", chunks())
    assert endless.startswith(b"HTTP/1.1 413") or not endless
    assert _raw(abused, "content-length: 1000", drops()).startswith(b"HTTP/1.1 408")
    assert _raw(abused, "content-length: 99999999999", iter([b"", b"", b"", b"", b"", b""])).startswith(b"HTTP/1.1 413")
    assert abused.get("/v1/server")["journal_position"] == before


def test_bodies_that_are_not_what_they_say(abused: Server) -> None:
    url = "/v1/streams/logins/events"
    bomb = gzip.compress(b"\n" * (1 << 28), 9)
    line = ndjson([{"user": "u", "ts": 1, "n": 1, "ok": True}])
    before = resident_bytes(abused.pid)
    for headers, body, status in (
        ({**NDJSON, "content-encoding": "gzip"}, bomb, 413),
        ({**NDJSON, "content-encoding": "gzip"}, line, 400),
        ({**NDJSON, "content-encoding": "gzip"}, gzip.compress(line)[:-6], 400),
        ({**NDJSON, "content-encoding": "br"}, line, 415),
        ({"content-type": "application/octet-stream"}, line, 415),
        ({"content-type": "application/x-python-pickle"}, b"cos\nsystem\n(S'true'\ntR.", 415),
        ({"content-type": "application/json"}, b"[" * 100_000, 400),
        (NDJSON, b'{"user": "u", "ts": ', 400),
        (NDJSON, b"\xff\xfe\n", 400),
        (NDJSON, b"x" * (13 << 20), 413),
    ):
        answer = abused.client.post(url, content=body, headers=headers)
        assert is_problem(answer)["status"] in ({status, 422} if status == 400 else {status}), (headers, answer.text)
    assert resident_bytes(abused.pid) - before < 200 << 20


def test_two_hundred_patterns(make: Callable[..., Server]) -> None:
    """All live on one stream, and each gives exactly its own matches."""
    server = make()
    server.start()
    patterns = "".join(
        f"pattern p{k} on logins match a -> b define a as n % 200 = {k} and ok, b as n % 200 = {k} and not ok "
        f"emit user, a.n as a, b.n as b\n"
        for k in range(200)
    )
    server.apply(STREAM + patterns)
    events: list[dict[str, Any]] = [
        {"user": f"u{n % 3}", "ts": n * 10, "n": n % 3000, "ok": n < 3000} for n in range(6_000)
    ]
    for at in range(0, len(events), 1_000):
        server.send("logins", events[at : at + 1_000])
    server.send("logins", [{"user": "end", "ts": 10**9, "n": -1, "ok": True}])
    server.caught_up()
    expected = []
    opened: dict[tuple[int, str], list[int]] = {}
    for event in events:
        key = (event["n"] % 200, event["user"])
        if event["ok"]:
            opened.setdefault(key, []).append(event["n"])
        else:
            expected += [(f"p{key[0]}", f"{key[1]} {first} {event['n']}") for first in opened.pop(key, [])]
    found = [(row["pattern"], "{user} {a} {b}".format(**row["row"])) for row in server.matches()]
    assert sorted(found) == sorted(expected)
    assert len({pattern for pattern, _ in found}) == 200


def test_five_hundred_followers_of_which_most_never_read(make: Callable[..., Server]) -> None:
    """Who reads gets every row, once and in order; who does not costs a bounded amount, and holds nobody up."""
    server = make(limits__send_timeout="60s")
    server.start()
    server.apply(STREAM + "pattern every on logins match a emit user, a.n as n\n")
    port, token = int(server.url.rpartition(":")[2]), server.token
    batches, size, readers = 40, 500, 60
    ask = (
        f"GET /v1/matches/stream?after=0 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
    ).encode()

    async def read_all() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ask)
        seen, pending = 0, b""
        while seen < batches * size:
            data = await reader.read(1 << 18)
            assert data, "cut off"
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    seen += 1
                    assert b'"seq":%d,' % seen in line[:60], line
        writer.close()
        await writer.wait_closed()
        return seen

    async def never_read() -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, ask)
        return sock

    async def scene() -> None:
        sleeping = [await never_read() for _ in range(500 - readers)]
        reading = [asyncio.create_task(read_all()) for _ in range(readers)]
        await asyncio.sleep(0.3)
        before = resident_bytes(server.pid)
        for batch in range(batches):
            events = [{"user": "u", "ts": batch * 1_000 + n, "n": n, "ok": True} for n in range(size)]
            await asyncio.to_thread(server.send, "logins", events)
        await asyncio.to_thread(server.send, "logins", [{"user": "u", "ts": 10**9, "n": 0, "ok": True}])
        counts = await asyncio.wait_for(asyncio.gather(*reading), 60)
        assert counts == [batches * size] * readers
        # 20,000 rows of 170 bytes for each of 440: were they held for each, it would be 1.5 GB
        assert resident_bytes(server.pid) - before < 400 << 20
        for sock in sleeping:
            sock.close()

    asyncio.run(scene())
    eventually(server.is_ready, "the server to be well")


def test_a_pattern_that_fails_stops_no_other(make: Callable[..., Server]) -> None:
    """At its cap it is left out: it is `failed`, with the reason; others go on, after a restart too."""
    server = make(checkpoints__interval="100ms")
    server.start()
    server.apply(
        STREAM + "pattern every on logins match a emit user, a.n as n\n"
        "pattern capped on logins match a -> b define b as n < 0 cap 50 partial matches per key fail\n"
    )

    def send(first: int, count: int = 40) -> None:
        server.send("logins", [{"user": "u", "ts": n * 100, "n": n, "ok": True} for n in range(first, first + count)])

    def state() -> Any:
        return server.get("/v1/patterns/capped")

    send(0)
    assert state()["state"] == "live"
    send(40)
    send(80)
    eventually(lambda: state()["state"] == "failed", "it to have failed", unless=server.check_alive)
    assert "50" in state()["error"]
    send(120)

    def numbers() -> list[int]:
        server.caught_up()
        return [row["row"]["n"] for row in server.matches(pattern="every")]

    eventually(lambda: len(numbers()) >= 149, "the other to have gone on")
    server.kill()
    server.start()
    assert state()["state"] == "failed"
    send(160)
    server.kill_worker()
    send(200, 41)
    send(1_000, 1)
    eventually(lambda: len(numbers()) == 241, "the other to have gone on")
    assert numbers() == list(range(241))
    assert server.client.post("/v1/patterns/capped/resume", json={}).is_success
    assert state()["state"] == "live"


def test_a_second_server_on_the_directory_refuses(make: Callable[..., Server], tmp_path: Path) -> None:
    server = make()
    server.start()
    other = make()
    other.data = server.data
    other.launch()
    assert other.wait() == exits.TAKEN
    assert str(server.data) in other.said
    assert str(server.pid) in other.said
    assert server.is_ready()


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_damaged_files_are_named(make: Callable[..., Server]) -> None:
    """What was durable and is not what was written stops the server, or its worker, and the file is named; what can be
    had otherwise is."""
    server = make(checkpoints__interval="50ms")
    server.start()
    server.apply(STREAM + "pattern every on logins match a emit user, a.n as n\n")
    for batch in range(20):
        server.send("logins", [{"user": "u", "ts": batch * 1_000 + n, "n": n, "ok": True} for n in range(50)])
    server.caught_up()
    time.sleep(0.5)
    assert server.stop() == exits.TERMINATED

    def damaged(path: Path, at: int) -> str:
        """What a start with a damaged file says; the file is whole again afterwards."""
        whole = path.read_bytes()
        _flip(path, at)
        server.launch()
        try:
            eventually(lambda: not server.alive, "its end", 30)
            said = server.said
        finally:
            if server.alive:
                server.kill()
        path.write_bytes(whole)
        assert "Traceback" not in said, said
        return said

    journal = min((server.data / "journal").glob("*.log"))
    for index in (server.data / "journal").glob("*.index"):
        index.unlink()
    assert str(journal) in damaged(journal, 400)
    assert server.wait() == exits.STATE
    log = min((server.data / "matches").glob("*.matches"))
    assert log.name in damaged(log, 300)
    assert server.wait() == exits.STATE
    catalog = server.data / "catalog.sqlite"
    for left in server.data.glob("catalog.sqlite-*"):
        left.unlink()
    assert str(catalog) in damaged(catalog, 3)
    assert server.wait() == exits.STATE
    connection = sqlite3.connect(catalog)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    # a snapshot that is damaged: the one before it serves, or it says so
    newest = max((path for path in (server.data / "checkpoints").rglob("*") if path.is_file()), key=_age)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    server.start()
    server.send(
        "logins", [{"user": "u", "ts": 10**9, "n": 7, "ok": True}, {"user": "u", "ts": 2 * 10**9, "n": 8, "ok": True}]
    )
    server.caught_up()
    rows = server.matches()
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) == 1001


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name
