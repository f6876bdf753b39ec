"""A topic as the output of a whole job: at least once. Exactly once is for jobs between topics, which run by partitions
(`ostinato.cep.runtime.partitioned`)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import ConnectorError, SinkError
from ostinato.cep.connectors.kafka.options import KafkaTarget
from ostinato.cep.connectors.kafka.producers import Offsets, OutRecord, PlainProducer, ProducerSettings
from ostinato.cep.connectors.kafka.rows import keys_of, values_of
from ostinato.state.eventloop import EventLoop

_WAITING: Final = 64
"""So many batches may be on their way; then whoever writes waits for the first."""


class KafkaSink:
    """Writes rows as records. `flush` waits until the brokers have them, so that a checkpoint covers none that are not
    written; after a failure rows since the last checkpoint come again."""

    def __init__(self, target: KafkaTarget, keys: Sequence[str]) -> None:
        """`keys`: the columns of the record's key."""
        self._target = target
        self._keys = tuple(keys)
        self._place = f"topic {target.topic} at {target.connection.servers}"
        self._loop: EventLoop | None = None
        self._producer: PlainProducer | None = None
        self._sending: list[Future[None]] = []

    def write(self, batch: Batch) -> None:
        """Raises SinkError, of this batch or of one before."""
        loop, producer = self._open()
        topic = self._target.topic
        times = batch.time.tolist()
        records = [
            OutRecord(topic, key, value, (("event-time", b"%d" % time),))
            for key, value, time in zip(keys_of(batch, self._keys), values_of(batch), times, strict=True)
        ]
        self._sending.append(loop.submit(producer.send(records)))
        if len(self._sending) > _WAITING:
            self._wait(self._sending.pop(0))

    def flush(self) -> None:
        loop, producer = self._loop, self._producer
        if loop is None or producer is None:
            return
        sending, self._sending = self._sending, []
        for each in sending:
            self._wait(each)
        self._wait(loop.submit(producer.drain()))

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._give_up()

    def _open(self) -> tuple[EventLoop, PlainProducer]:
        """The topic is reached when the first row comes: a job that finds nothing needs none."""
        if self._loop is None or self._producer is None:
            given = self._target
            settings = ProducerSettings(
                given.connection, given.compression, linger_ms=given.linger_ms, max_request_size=given.max_request_size
            )
            loop = EventLoop(f"topic-{given.topic}")
            producer = PlainProducer(settings, self._place, _nothing)
            try:
                self._wait(loop.submit(producer.start()))
            except BaseException:
                loop.close()
                raise
            self._loop, self._producer = loop, producer
        return self._loop, self._producer

    def _wait(self, done: Future[None]) -> None:
        try:
            done.result()
        except ConnectorError as error:
            # A producer that has failed fails for ever: when the job is begun again it gets another one.
            self._give_up()
            raise SinkError(str(error)) from error

    def _give_up(self) -> None:
        loop, producer = self._loop, self._producer
        self._loop = self._producer = None
        self._sending = []
        if loop is None or producer is None:
            return
        try:
            loop.call(producer.discard())
        finally:
            loop.close()


async def _nothing(_: Offsets) -> None:
    """A whole job keeps its own positions."""
