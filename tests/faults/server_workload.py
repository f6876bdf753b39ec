"""What runs against a server that is struck: clients, changes, followers, a webhook; and what all must come to."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import threading
import time
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec

from ostinato.server.catalog import Catalog
from ostinato.server.catalog.definitions import Body
from ostinato.server.journal import Kind
from ostinato.server.live.engine import Engine
from ostinato.server.live.generation import Activation, Generation
from ostinato.server.matches import MatchLogReader, MatchLogWriter
from tests.server_driver import NDJSON, Follower, Server, journal_entries, ndjson

CLIENTS = 3
KEYS = 5
"""Of each client; no two clients have one in common."""
_BATCH = 10
_PAUSE = 0.015
_END_MS = 10**12
FILE = """
stream readings (sensor string key, at timestamp(ms) time delay 10 min, n bigint, level bigint)
param bound = 50

-- these two are never changed
pattern steady on readings
  match  low -> high
  define low as level < 20, high as level > 80
  emit   sensor, low.n as low, high.n as high

pattern rare on readings
  match  spike
  define spike as level = 50
  emit   sensor, spike.n as n
"""
_TUNED = """
pattern tuned on readings
  match  a -> b
  define a as level > $bound, b as level < 5
  within 1 min
  emit   sensor, a.n as a, b.n as b
"""
_SHAPES = ("a -> b", "a -> c -> b", "a{2,} relaxed -> b")


def moving(number: int) -> str:
    """The text of a version that no other has; every third has the structure of another."""
    middle = "level > 10" if number % 3 == 1 else "true"
    also = f", c as {middle}" if number % 3 == 1 else ""
    return f"""
pattern moving on readings
  match  {_SHAPES[number % 3]}
  define a as level > {60 + number % 7} and n >= 0 - {number}, b as level < 15{also}
  within 1 min
  emit   sensor, a.n as a, b.n as b
"""


class Clock:
    """Event time of all clients together, so that none of them is ever far behind the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n = 0

    def take(self, count: int) -> range:
        with self._lock:
            self._n += count
            return range(self._n - count, self._n)


class Client(threading.Thread):
    """Sends batches, each with an idempotency key, again and again until it is acknowledged.

    Attributes:
        acknowledged: events in the order in which they were.
    """

    def __init__(self, server: Server, number: int, clock: Clock) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[dict[str, Any]] = []
        self.duplicates = 0
        self.error: str | None = None
        self._server = server
        self._number = number
        self._clock = clock
        self._random = random.Random(number)
        self._ended = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=5, trust_env=False) as client:
            client.headers["authorization"] = f"Bearer {self._server.token}"
            sent = 0
            while not self._ended.is_set() and self.error is None:
                events = [
                    {
                        "sensor": f"s{self._number}-{self._random.randrange(KEYS)}",
                        "at": n * 1000,
                        "n": n,
                        "level": self._random.randrange(100),
                    }
                    for n in self._clock.take(_BATCH)
                ]
                self._send(client, events, f"{self._number}/{sent}")
                sent += 1
                time.sleep(_PAUSE)

    def _send(self, client: httpx.Client, events: list[dict[str, Any]], key: str) -> None:
        headers = {**NDJSON, "idempotency-key": key}
        while True:
            try:
                answer = client.post("/v1/streams/readings/events", content=ndjson(events), headers=headers)
            except (httpx.TransportError, OSError):
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                receipt = answer.json()
                if receipt["accepted"] != len(events):
                    self.error = f"{receipt} for {len(events)} events"
                self.duplicates += receipt["duplicate"]
                self.acknowledged += events
                return
            if answer.status_code < 500:
                self.error = answer.text
                return
            time.sleep(0.02)

    def close(self) -> None:
        self._ended.set()
        self.join(60)
        assert not self.is_alive()
        assert self.error is None, self.error


class Changer(threading.Thread):
    """Makes one change after the other and notes what was acknowledged.

    Attributes:
        acknowledged: generation -> what was asked for.
        numbers: of the texts of `moving` that were acknowledged; `tried`: of all.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[int, tuple[str, int]] = {}
        self.numbers: list[int] = []
        self.tried = 0
        self.unknown = 0
        self.error: str | None = None
        self._server = server
        self._random = random.Random(7)
        self._ended = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=20, trust_env=False) as client:
            client.headers["authorization"] = f"Bearer {self._server.token}"
            while not self._ended.is_set():
                what = self._random.choice(
                    ["apply", "apply", "apply", "param", "param", "rollback", "pause", "coming", "shadow"]
                )
                try:
                    answer = self._make(client, what)
                except (httpx.TransportError, OSError):
                    self.unknown += 1
                    time.sleep(0.03)
                    continue
                if answer.status_code == 503:
                    self.unknown += 1
                    time.sleep(0.03)
                elif answer.status_code == 409 or answer.status_code == 404:
                    continue  # as things are: paused already, or nothing to go back to
                elif answer.is_success:
                    made = answer.json()
                    if made["generation"] is not None:
                        self.acknowledged[made["generation"]] = (what, made["position"])
                    if what == "apply":
                        self.numbers.append(self.tried)
                else:
                    self.error = f"{what}: {answer.status_code} {answer.text}"
                    return
                time.sleep(0.02)

    def _make(self, client: httpx.Client, what: str) -> httpx.Response:
        text = {"content-type": "text/plain"}
        if what == "apply":
            self.tried += 1
            return client.post("/v1/apply", content=moving(self.tried), headers=text)
        if what == "param":
            return client.put("/v1/params/bound", json={"value": self._random.randrange(100)})
        if what == "rollback":
            return client.post("/v1/patterns/moving/rollback", json={})
        if what == "pause":
            does = self._random.choice(["pause", "resume"])
            return client.post(f"/v1/patterns/tuned/{does}", json={})
        if what == "shadow":
            if self._random.random() < 0.5:
                return client.delete("/v1/patterns/tuned/shadow")
            return client.put("/v1/patterns/tuned/shadow", content=_TUNED.replace("< 5", "< 9"), headers=text)
        if self._random.random() < 0.5:
            return client.delete("/v1/patterns/coming")
        return client.post("/v1/apply", content=_TUNED.replace("tuned", "coming"), headers=text)

    def close(self) -> None:
        self._ended.set()
        self.join(60)
        assert not self.is_alive()
        assert self.error is None, self.error


class Keeper(threading.Thread):
    """Keeps every generation that the catalog has had, as the server forgets those that no replay needs."""

    def __init__(self, catalog: Path) -> None:
        super().__init__(daemon=True)
        self._catalog = catalog
        self._found: dict[int, bytes] = {}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            self.look()

    def look(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # a catalog that is being opened
            connection = sqlite3.connect(f"{self._catalog.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
            try:
                self._found |= dict(connection.execute("SELECT generation, body FROM changes WHERE body IS NOT NULL"))
            finally:
                connection.close()

    def generation(self, number: int) -> Generation:
        return msgspec.json.decode(zlib.decompress(self._found[number]), type=Body).generation

    def close(self) -> None:
        self._ended.set()
        self.join(10)


class Receiver:
    """A webhook's target. `got`: idempotency key -> bodies."""

    def __init__(self) -> None:
        self.got: dict[str, list[dict[str, Any]]] = defaultdict(list)
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                got[self.headers["idempotency-key"]].append(json.loads(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@dataclass
class Workload:
    """All of it at once, from `begin` to `judge`."""

    server: Server
    folder: Path
    clients: list[Client] = field(default_factory=list)
    changer: Changer | None = None
    follower: Follower | None = None
    keeper: Keeper | None = None
    receiver: Receiver = field(default_factory=Receiver)

    def begin(self) -> None:
        """The server runs; declare all, then let everybody loose."""
        self.keeper = Keeper(self.server.data / "catalog.sqlite")
        self.keeper.start()
        self.server.apply(FILE)
        self.server.apply(_TUNED)
        self.server.apply(moving(0))
        both = {"start": "earliest"}
        hook = {"type": "webhook", "url": self.receiver.url, "patterns": ["rare"], **both}
        self.server.put("/v1/outputs/hook", hook)
        kinds = ["match", "timeout", "late", "dead letter"]
        path = str(self.folder / "out.jsonl")
        self.server.put("/v1/outputs/lines", {"type": "file", "path": path, "kinds": kinds, **both})
        clock = Clock()
        self.clients = [Client(self.server, number, clock) for number in range(CLIENTS)]
        self.changer = Changer(self.server)
        self.follower = Follower(self.server)
        for thread in (*self.clients, self.changer, self.follower):
            thread.start()

    def close(self) -> None:
        if self.follower is not None:
            self.follower.close()
        if self.keeper is not None:
            self.keeper.close()
        self.receiver.close()

    def judge(self) -> str:
        """End everything in good order, then hold what is there against what must be; a line that says how much."""
        server, changer, follower = self.server, self.changer, self.follower
        assert changer is not None
        assert follower is not None
        for client in self.clients:
            client.close()
        changer.close()
        # time goes to its end: all that can still match does
        server.send("readings", [{"sensor": "end", "at": _END_MS, "n": -1, "level": 30}])
        last = server.caught_up()
        server.wait_for(lambda: follower.seqs[-1:] == [last], f"the follower to have row {last}")
        for name in ("hook", "lines"):
            server.wait_for(
                lambda name=name: server.get(f"/v1/outputs/{name}")["status"]["cursor"] >= last,  # type: ignore[misc]
                f"the output {name} to have row {last}",
            )
        rows = server.matches()
        changes = self._changes()
        versions = self._versions()
        assert server.stop() >= 0
        self._judge_events(rows)
        self._judge_changes(changes, versions)
        self._judge_rows(rows)
        self._judge_outputs(rows, follower)
        events = sum(len(client.acknowledged) for client in self.clients)
        again = sum(client.duplicates for client in self.clients)
        return (
            f"{events} events ({again} batches acknowledged again), {len(rows)} rows, {len(changer.acknowledged)} "
            f"changes acknowledged, {changer.unknown} not, {follower.connections} connections of the follower"
        )

    def _changes(self) -> dict[int, dict[str, Any]]:
        items: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            page = self.server.get("/v1/changes", limit=1000, **({} if after is None else {"after": after}))
            items += page["items"]
            after = page["next"]
            if after is None:
                return {item["generation"]: item for item in items}

    def _versions(self) -> list[str]:
        page = self.server.get("/v1/patterns/moving/versions", limit=1000)
        assert page["next"] is None
        return [item["text"] for item in reversed(page["items"])]

    def _judge_events(self, rows: list[dict[str, Any]]) -> None:
        """Each acknowledged event is in the journal, once; what was never changed matched as one would by hand."""
        acknowledged = [event for client in self.clients for event in client.acknowledged]
        entries = journal_entries(self.server.data / "journal")
        events = [
            json.loads(line) for entry in entries if entry.kind is Kind.EVENTS for line in entry.data.splitlines()
        ]
        times = Counter(event["n"] for event in events if event["n"] >= 0)
        lost = [event for event in acknowledged if not times[event["n"]]]
        assert not lost, f"{len(lost)} acknowledged events are lost: {lost[:3]}"
        twice = [n for n, count in times.items() if count > 1]
        assert not twice, f"{len(twice)} events are there twice: {twice[:3]}"
        assert len(times) == len(acknowledged)
        # by hand, over what was acknowledged: each low goes with the first high behind it
        expected: dict[str, list[tuple[int, int]]] = defaultdict(list)
        spikes = set()
        for client in self.clients:
            lows: dict[str, list[int]] = defaultdict(list)
            for event in client.acknowledged:
                key = event["sensor"]
                if event["level"] > 80:
                    expected[key] += [(low, event["n"]) for low in lows.pop(key, [])]
                elif event["level"] < 20:
                    lows[key].append(event["n"])
                elif event["level"] == 50:
                    spikes.add((key, event["n"]))
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row in rows:
            if row["pattern"] == "steady":
                found[row["row"]["sensor"]].append((row["row"]["low"], row["row"]["high"]))
        assert found == expected
        rare = [(row["row"]["sensor"], row["row"]["n"]) for row in rows if row["pattern"] == "rare"]
        assert sorted(rare) == sorted(spikes)

    def _judge_changes(self, changes: dict[int, dict[str, Any]], versions: list[str]) -> None:
        """What was acknowledged is listed where it was said to be; what is listed is in the journal and the reverse."""
        assert self.changer is not None
        with Catalog(self.server.data) as catalog:
            made = {each.generation: each.position for each in catalog.definitions.changes(1 << 20)}
        # after they were listed the server itself may have taken out a version that had drained
        listed = {number: item["position"] for number, item in changes.items()}
        assert listed == {number: made[number] for number in listed}
        assert sorted(made) == list(range(1, len(made) + 1))
        for number, (what, position) in self.changer.acknowledged.items():
            assert changes[number]["position"] == position, f"{what}: {changes[number]}"
        effective: dict[int, int] = {}
        for entry in journal_entries(self.server.data / "journal"):
            if entry.kind is Kind.GENERATION:
                number = msgspec.json.decode(entry.data, type=Activation).generation
                # a record that comes again changes nothing
                effective.setdefault(number, entry.position)
        assert effective == made
        assert list(effective) == sorted(effective)
        for number in self.changer.numbers:
            mark = f"0 - {number}"
            holding = [text for text in versions if f"{mark}," in text or f"{mark}\n" in text]
            assert len(holding) == 1, f"version {number}, which was acknowledged, is there {len(holding)} times"
        assert len(versions) == len(set(versions)), "a change that was made is there twice"

    def _judge_rows(self, rows: list[dict[str, Any]]) -> None:
        """The log of matches is, byte for byte, what nobody's killing anybody would have made of the journal."""
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        assert len({row["id"] for row in rows}) == len(rows)
        again = self.folder / "again"
        log = MatchLogWriter(again)
        assert self.keeper is not None
        self.keeper.look()
        engine = Engine(log, self.keeper.generation)
        for entry in journal_entries(self.server.data / "journal"):
            engine.apply(entry)
        log.close()
        undisturbed, found = (MatchLogReader(folder) for folder in (again, self.server.data / "matches"))
        try:
            after = 0
            while True:
                expected, held = undisturbed.read(after, 5000), found.read(after, 5000)
                for one, other in zip(expected, held, strict=False):
                    assert one == other
                assert len(expected) == len(held)
                if not expected:
                    break
                after = expected[-1].seq
            assert after == len(rows)
        finally:
            undisturbed.close()
            found.close()

    def _judge_outputs(self, rows: list[dict[str, Any]], follower: Follower) -> None:
        assert follower.seqs == list(range(1, len(rows) + 1))
        assert [row for _, row in follower.events] == rows
        content = (self.folder / "out.jsonl").read_text()
        assert content.endswith("\n")
        assert [json.loads(line) for line in content.splitlines()] == rows
        rare = {row["id"]: row for row in rows if row["pattern"] == "rare"}
        assert set(self.receiver.got) == set(rare)
        for key, bodies in self.receiver.got.items():
            assert all(body == rare[key] for body in bodies)
