"""Backtests over topics, on a real broker: the part between two timestamps, once."""

from __future__ import annotations

import json
from collections import Counter

from ostinato.server.backtest.history import over_sources
from ostinato.server.backtest.inputs import inputs_of
from ostinato.server.backtest.planning import plan_sides
from ostinato.server.backtest.spec import BacktestSpec
from ostinato.server.catalog.definitions import Body, Definitions
from ostinato.server.config import KafkaSection
from ostinato.server.http.schemas.jobs import BacktestSource
from ostinato.server.live.generation import Generation
from ostinato.server.matches import Rows
from ostinato.server.submitted.folders import Folders
from tests.kafka_clients import Given, Kafka

TEXT = """
stream events (k string key, ts timestamp(ms) time delay 1 s, v int)
pattern rise on events match a -> b define a as v > 0, b as v = 0 within 1 min emit k, a.v as v
"""


class Kept:
    """A side that keeps the rows."""

    def __init__(self) -> None:
        self.next_seq = 0
        self.values: Counter[int] = Counter()

    def append(self, rows: Rows) -> int:
        self.values.update(json.loads(value)["v"] for value in rows.values)
        return 0


def test_a_part_of_a_topic_between_two_timestamps(kafka: Kafka) -> None:
    topic = kafka.unique("history")
    kafka.create_topic(topic, 2)
    begin = 1_700_000_000_000
    for n in range(100):
        # a batch each: brokers find a timestamp by the batch first
        at = begin + 1_000 * n
        pair = [{"k": f"k{n % 2}", "ts": at, "v": n + 1}, {"k": f"k{n % 2}", "ts": at + 1, "v": 0}]
        kafka.produce(topic, [Given(None, json.dumps(each), n % 2, (), int(str(each["ts"]))) for each in pair])
    sides = plan_sides(TEXT, {}, Body(Definitions(), Generation(0)), compare=True)
    source = BacktestSource(kind="kafka", paths={"events": topic})
    server = KafkaSection(bootstrap_servers=kafka.servers)
    inputs = inputs_of(source, sides.sources, Folders((), "files.read"), server, is_timed=True)

    def values(from_ms: int | None, to_ms: int | None) -> Counter[int]:
        kept, parts = Kept(), list[float]()
        spec = BacktestSpec(sides.here, None, sides.patterns, inputs=inputs, from_ms=from_ms, to_ms=to_ms)
        over_sources(spec, [(sides.here, kept)], lambda part, _: parts.append(part))
        assert parts[-1] == 1.0
        return kept.values

    assert values(None, None) == Counter(range(1, 101))
    assert values(begin + 20_000, begin + 60_000) == Counter(range(21, 61))
    assert values(begin + 90_000, None) == Counter(range(91, 101))
