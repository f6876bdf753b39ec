"""The workload of the fault tests between topics: the events and patterns of `tests.faults.workload`, from one topic to
several.

Left out is the pattern that reads what another has found by another key: that is refused between topics. The rows that
are expected come from a run of the same patterns over a file.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.faults import workload
from tests.faults.workload import DELAY_MS, Event, Shape

KEYS: Mapping[str, tuple[str, ...]] = {name: keys for name, keys in workload.KEYS.items() if name != "quiet"}
"""The streams that come out, and the columns by which their rows keep an order."""

_QUIET = re.compile(r"-- over what the pattern before found.*?(?=\noutput)", re.DOTALL)
_FEED_SECONDS = 90.0
"""How long it may take to get an event to a broker that is killed and comes back."""


def events_of(shape: Shape) -> Iterator[Event]:
    """The events, of which no two of one user have the same time: between partitions there is no order but time. The
    last one, far behind the rest, fits no pattern."""
    seen = set()
    for event in workload.events_of(Shape(shape.events, 1, shape.users, shape.step_ms, shape.seed)):
        if (event["user"], event["ts"]) not in seen:
            seen.add((event["user"], event["ts"]))
            yield event


def key_of(event: Event) -> bytes:
    """As Ostinato itself writes a key of two columns."""
    return json.dumps([event["user"], event["city"]], separators=(",", ":")).encode()


def value_of(event: Event) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def topic_of(name: str, stream: str) -> str:
    """Of the job `name`, for its stream `events` or one that comes out."""
    return f"{name}.{stream}"


def program(
    name: str, servers: str, source: Mapping[str, Any] | None = None, sink: Mapping[str, Any] | None = None
) -> str:
    """The program between topics of the job `name`; `source`, `sink`: more options of these."""
    text = _QUIET.sub("", workload.program())
    text = re.sub(r"output quiet .*\n", "", text)
    text = re.sub(
        r"from file .*\)", f"from kafka '{topic_of(name, 'events')}' ({_options(servers, source or {})})", text
    )
    given = _options(servers, sink or {})
    return re.sub(r"to file 'out/(\w+)\.jsonl'", lambda found: f"to kafka '{topic_of(name, found[1])}' ({given})", text)


def lay_out_offline(folder: Path, shape: Shape) -> None:
    """The same patterns over a file, which holds all events."""
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    text = _QUIET.sub("", workload.program(chunk_bytes=1_000_000))
    (folder / "job.cep").write_text(re.sub(r"output quiet .*\n", "", text))
    (folder / "in" / "events-0.jsonl").write_bytes(b"".join(value_of(event) + b"\n" for event in events_of(shape)))


def _options(servers: str, more: Mapping[str, Any]) -> str:
    given = {"bootstrap_servers": servers, **more}
    return ", ".join(f"{name} = {_literal(value)}" for name, value in given.items())


def _literal(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


class TopicFeeder:
    """Writes events to a topic in a thread, each when it is due; the last one goes into every partition.

    Attributes:
        fed: how many the broker has been given.
        ended: all of them.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        partitions: int,
        events: Iterator[Event],
        per_second: float,
        key: Callable[[Event], bytes] = key_of,
    ) -> None:
        self._servers = servers
        self._topic = topic
        self._partitions = partitions
        self._events = events
        self._per_second = per_second
        self._key = key
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._feed()), name="feeder")
        self._times: list[int] = []
        self._moments: list[float] = []
        self._failure: BaseException | None = None
        self.fed = 0
        self.last_ms = 0
        """The time of the last event; 0 as long as that is not written."""

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """Write the rest at once."""
        self._per_second = float("inf")

    def join(self, seconds: float = _FEED_SECONDS) -> None:
        """Wait until everything is written."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the feeder has not finished within {seconds} s"
        assert self._failure is None, f"the feeder has failed: {self._failure!r}"

    def close(self) -> None:
        """Stop, also in the middle."""
        self._stop.set()
        self._thread.join(30)

    @property
    def final_ms(self) -> int | None:
        """What the watermark is at the end of the input; None as long as that is not written."""
        return self.last_ms - DELAY_MS - 1 if self.last_ms else None

    def behind(self, watermark: int) -> float:
        """For how many seconds the oldest event has been waiting that a watermark has not come to."""
        if self.final_ms is not None and watermark >= self.final_ms:
            return 0.0
        times, moments = self._times, self._moments
        # an event is behind when time would have come further with it
        at = bisect_right(times, watermark + DELAY_MS + 1, hi=len(moments))
        return time.monotonic() - moments[at] if at < len(moments) else 0.0

    async def _feed(self) -> None:
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            enable_idempotence=True,
            request_timeout_ms=int(_FEED_SECONDS * 1000),
            retry_backoff_ms=50,
            linger_ms=5,
        )
        try:
            await producer.start()
            await self._feed_all(producer)
        except BaseException as error:  # noqa: BLE001 - whoever waits has to hear of it
            self._failure = error
        finally:
            with suppress(Exception):
                await producer.stop()

    async def _feed_all(self, producer: Any) -> None:
        began, due, largest = time.monotonic(), 0.0, 0
        sent: list[Any] = []
        for event in self._events:
            due += 1 / self._per_second
            while (ahead := began + due - time.monotonic()) > 0.01 and self._per_second != float("inf"):
                if self._stop.is_set():
                    return
                await asyncio.sleep(min(ahead, 0.05))
            if event["user"] == "last":
                await asyncio.gather(*sent)
                for partition in range(self._partitions):
                    own = {**event, "seq": event["seq"] + partition}
                    await producer.send_and_wait(self._topic, value_of(own), self._key(own), partition)
                self.last_ms = event["ts"]
                continue
            sent.append(await producer.send(self._topic, value_of(event), self._key(event)))
            if len(sent) >= 500:
                await asyncio.gather(*sent[:400])
                del sent[:400]
            self.fed += 1
            largest = max(largest, event["ts"])
            self._times.append(largest)
            self._moments.append(time.monotonic())


def by_number(event: Event) -> bytes:
    """A key that is not the stream's: for streams that are rekeyed."""
    return str(event["seq"] % 13).encode()


def rows_of(folder: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """What the offline run has written."""
    return {
        name: [json.loads(line) for line in (folder / "out" / f"{name}.jsonl").read_text().splitlines()]
        for name in KEYS
    }
