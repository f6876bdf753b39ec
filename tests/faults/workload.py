"""What the fault tests run: a stream of events from a seed, and patterns of all kinds over it.

Every event carries where it came from: the number of its file (`part`) and its place in it (`seq`). Every match says by
them of which events it consists, so that no two matches are alike and each can be told from every other.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]

START_MS = 1_700_000_000_000
DELAY_MS = 1_000

PROGRAM = """
stream events (
  user  string key,
  city  string key,
  ts    timestamp(ms) time delay 1 s idle 0 ms,
  part  bigint,
  seq   bigint,
  kind  string
) from file 'in/events-*.jsonl' (OPTIONS)

-- a loop, a skip strategy, and timeouts
pattern burst on events
  match  fail{3} relaxed -> ok
  define fail as kind = 'fail', ok as kind = 'ok'
  within 20 s
  after match skip past last
  emit   user, city, collect(fail.part) as fail_parts, collect(fail.seq) as fail_seqs, ok.part as part, ok.seq as seq
  into   bursts
  timeouts into unfinished

-- every combination
pattern pair on events
  match  a ->> b
  define a as kind = 'login', b as kind = 'buy'
  within 6 s
  emit   user, city, a.part as first_part, a.seq as first_seq, b.part as part, b.seq as seq
  into   pairs

-- absence at the end: due when time has passed, not when an event comes
pattern silent on events
  match  a !-> b
  define a as kind = 'login', b as kind = 'buy' or kind = 'ok'
  within 4 s
  emit   city, user || '' as who, a.part as part, a.seq as seq
  into   silences

-- over what the pattern before found, by the city alone (`who` is no key there): rows change their worker
pattern quiet_city on silences
  match  x{2} y
  define y as y.part > x.part or y.seq > x.seq
  within 1 min
  after match skip past last
  emit   city, collect(x.part) as x_parts, collect(x.seq) as x_seqs, y.part as part, y.seq as seq
  into   quiet

output bursts to file 'out/bursts.jsonl'
output unfinished to file 'out/unfinished.jsonl'
output pairs to file 'out/pairs.jsonl'
output silences to file 'out/silences.jsonl'
output quiet to file 'out/quiet.jsonl'
"""

KEYS: Mapping[str, tuple[str, ...]] = {
    "bursts": ("user", "city"),
    "unfinished": ("user", "city"),
    "pairs": ("user", "city"),
    "silences": ("who", "city"),
    "quiet": ("city",),
}
"""The streams that come out, and the columns by which their rows keep an order."""

KINDS = ("fail", "fail", "ok", "login", "buy", "other", "other")


@dataclass(frozen=True, slots=True)
class Shape:
    """How much there is of what. `step_ms`: mean time between two events."""

    events: int = 6_000
    parts: int = 2
    users: int = 40
    step_ms: int = 30
    seed: int = 1


def events_of(shape: Shape) -> Iterator[Event]:
    """The events in the order in which they are written, up to `DELAY_MS` out of the order of their times."""
    rng = random.Random(shape.seed)
    now = START_MS
    for part in range(shape.parts):
        for seq in range(shape.events // shape.parts):
            now += rng.randrange(2 * shape.step_ms)
            user = rng.randrange(shape.users)
            yield {
                "user": f"u{user}",
                "city": f"c{user % 7}",
                "ts": now - rng.randrange(DELAY_MS),
                "part": part,
                "seq": seq,
                "kind": rng.choice(KINDS),
            }
    # Far behind the rest, so that all that waits for time is due; it fits no pattern.
    last = {"user": "last", "city": "last", "ts": now + 3_600_000, "part": shape.parts - 1, "seq": shape.events}
    yield {**last, "kind": "other"}


def program(*, follow: bool = False, chunk_bytes: int = 8_000) -> str:
    """The program; small chunks make many entries of few events."""
    return PROGRAM.replace("OPTIONS", f"follow = {str(follow).lower()}, chunk_bytes = {chunk_bytes}")


def lay_out(folder: Path, shape: Shape, *, follow: bool = False, write: bool = True) -> None:
    """Put the program and, with `write`, its whole input into a folder."""
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir(exist_ok=True)
    (folder / "job.cep").write_text(program(follow=follow))
    if write:
        feeder = Feeder(folder, events_of(shape))
        feeder.write_all()


class Feeder:
    """Writes events to their files; gradually in a thread, or all at once."""

    def __init__(self, folder: Path, events: Iterator[Event], per_second: float = 1_000) -> None:
        self._folder = folder / "in"
        self._events = events
        self._per_second = per_second
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feeder")
        self.written = 0

    def write_all(self) -> None:
        for lines in self._by_part(list(self._events)):
            self._append(*lines)

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """Write the rest at once."""
        self._per_second = float("inf")

    def join(self, seconds: float) -> None:
        """Wait until everything is written."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the feeder has not finished within {seconds} s"

    def close(self) -> None:
        """Stop, also in the middle."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _feed(self) -> None:
        began, due = time.monotonic(), 0.0
        held: list[Event] = []
        for event in self._events:
            held.append(event)
            due += 1 / self._per_second
            ahead = began + due - time.monotonic()
            if ahead > 0.02 or len(held) >= 1_000:
                self._write(held)
                if ahead > 0.02 and self._ended.wait(ahead):
                    return
        self._write(held)

    def _write(self, held: list[Event]) -> None:
        for part, lines in self._by_part(held):
            self._append(part, lines)
        self.written += len(held)
        held.clear()

    def _by_part(self, events: Sequence[Event]) -> list[tuple[int, bytes]]:
        parts = sorted({event["part"] for event in events})
        return [
            (part, b"".join(json.dumps(e, separators=(",", ":")).encode() + b"\n" for e in events if e["part"] == part))
            for part in parts
        ]

    def _append(self, part: int, lines: bytes) -> None:
        with (self._folder / f"events-{part}.jsonl").open("ab", buffering=0) as file:
            file.write(lines)
