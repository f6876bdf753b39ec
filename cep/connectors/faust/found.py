"""What comes out of a pattern on a Faust stream: rows with where they come from, and counts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from ostinato.cep.batch import Batch
from ostinato.cep.event import natural


class Found(dict[str, Any]):
    """A match, or a partial match whose time has run out: the row that the pattern emits, as `cep.run` gives it.

    Attributes:
        pattern: its name.
        id: the same whenever the same events are gone over again, and another for every other match: by it, whoever
            takes the matches can tell those that come twice.
        time: event time at which it was complete, or timed out, in ms.
        topic, partition: where its events are.
    """

    __slots__ = ("id", "partition", "pattern", "time", "topic")

    def __init__(self, row: dict[str, Any], *, pattern: str, id: str, time: int, topic: str, partition: int) -> None:  # noqa: A002 - as it is called
        super().__init__(row)
        self.pattern = pattern
        self.id = id
        self.time = time
        self.topic = topic
        self.partition = partition


@dataclass(slots=True)
class Counts:
    """What has happened since the worker began.

    Attributes:
        events: taken in.
        matches: given.
        timeouts: partial matches whose time ran out, of a pattern that says ``timeouts into``.
        late: events behind the watermark.
        bad: values that do not fit the stream, or lie too far in the future.
        repeated: events that came again and are in the state already.
        writes: how often state was written to the table.
    """

    events: int = 0
    matches: int = 0
    timeouts: int = 0
    late: int = 0
    bad: int = 0
    repeated: int = 0
    writes: int = 0


def rows_of(batch: Batch) -> Iterator[dict[str, Any]]:
    """The rows of a batch as Python code sees them."""
    columns = {
        name: [natural(value, vector.type) for value in vector.to_list()] for name, vector in batch.columns.items()
    }
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


class Naming:
    """Makes ids of one advance of time: all rows of one event time come out in one advance."""

    def __init__(self, pattern: str, topic: str, partition: int) -> None:
        self._place = f"{pattern}\0{topic}\0{partition}\0".encode()
        self._pattern, self._topic, self._partition = pattern, topic, partition
        self._seen: Counter[bytes] = Counter()

    def found(self, batch: Batch) -> Iterator[Found]:
        """The rows with all that is known of them."""
        for time, row in zip(batch.time.tolist(), rows_of(batch), strict=True):
            content = orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
            said = self._place + f"{batch.stream}\0{time}\0".encode() + content
            self._seen[said] += 1  # rows that are equal in everything are told apart by their number
            said += self._seen[said].to_bytes(4, "big")
            id_ = hashlib.blake2b(said, digest_size=12).hexdigest()
            yield Found(row, pattern=self._pattern, id=id_, time=time, topic=self._topic, partition=self._partition)
