"""Matches to a topic, each once.

A transaction holds records and, as an offset of the topic's partition 0 for a group of the output's own, the number of
the last match that they stand for. Who reads only what is committed sees both or neither. At the start:

1. The producer registers its transactional id: any earlier one is fenced off, and what it had open is settled.
2. The offset is read. It cannot change any more behind our back, and says where to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import orjson

from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.kafka.errors import FencedProducerError, TooLargeError, explain, quiet_clients
from ostinato.cep.connectors.kafka.producers import OutRecord, ProducerSettings, TransactionalProducer
from ostinato.server.delivery.encoding import match_id, match_json
from ostinato.server.delivery.errors import RefusedError, RetryError
from ostinato.server.delivery.settings import KafkaOutput, OutputContext, connection_of
from ostinato.server.matches import Match

_LEAST_SECONDS: Final = 5.0
_ROWS: Final = 1_000
_BYTES: Final = 4 << 20


class KafkaTopic:
    """See `Target`."""

    batch_rows = _ROWS
    batch_bytes = _BYTES
    has_own_cursor = True

    def __init__(self, name: str, settings: KafkaOutput, context: OutputContext) -> None:
        """Raises OutputError."""
        self.id = f"ostinato.{context.server}.{name}"
        """The transactional id, and the group."""
        connection = connection_of(name, settings, context)
        self._server = context.server
        self._topic = settings.topic
        self._key = settings.key
        self._place = f"topic {settings.topic} at {connection.servers}"
        compression = None if settings.compression_type == "none" else settings.compression_type
        self._settings = ProducerSettings(connection, compression)
        # aiokafka tries some requests for ever while no broker answers
        self._seconds = max(_LEAST_SECONDS, 1.5 * connection.request_timeout_ms / 1000)
        self._producer: TransactionalProducer | None = None

    async def open(self) -> int | None:
        quiet_clients()
        await self.close()
        producer = TransactionalProducer(self._settings, self.id, self.id)
        try:
            async with asyncio.timeout(self._seconds):
                await producer.start()
                self._producer = producer
                return await self._committed()
        except TimeoutError:
            raise RetryError(f"{self._place}: no answer within {self._seconds:g} s") from None
        except ConnectorError as error:
            raise RetryError(str(error)) from error

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.discard()

    async def deliver(self, matches: Sequence[Match], cursor: int, /) -> None:
        assert self._producer is not None
        records = [self._record(match) for match in matches]
        try:
            async with asyncio.timeout(self._seconds):
                await self._producer.send(records)
                await self._producer.commit({(self._topic, 0): (cursor, self._server)})
        except TimeoutError:
            raise RetryError(f"{self._place}: not committed within {self._seconds:g} s") from None
        except TooLargeError as error:
            raise RefusedError(str(error), is_one=True) from error
        except FencedProducerError as error:
            raise RetryError(f"{self._place}: another server uses the transactional id {self.id}") from error
        except ConnectorError as error:
            raise RetryError(str(error)) from error

    async def _committed(self) -> int | None:
        from aiokafka import TopicPartition
        from aiokafka.admin import AIOKafkaAdminClient

        place = TopicPartition(self._topic, 0)
        settings = self._settings.connection.settings()
        admin = AIOKafkaAdminClient(**settings)
        try:
            await admin.start()
            found = await admin.list_consumer_group_offsets(self.id, partitions=[place])
        except Exception as error:
            raise explain(error, self._place) from error
        finally:
            await admin.close()
        # aiokafka takes an error that is of the whole group for an answer without offsets
        if place not in found:
            raise RetryError(f"{self._place}: nobody said what is committed of group {self.id}")
        offset = int(found[place].offset)
        return offset if offset >= 0 else None

    def _record(self, match: Match) -> OutRecord:
        headers = (
            ("match-id", match_id(self._server, match.seq).encode()),
            ("pattern", match.pattern.encode()),
            ("version", b"%d" % match.version),
            ("stream", match.stream.encode()),
            ("kind", match.kind.encode()),
            ("event-time", b"%d" % match.time),
        )
        return OutRecord(self._topic, self._key_of(match), match_json(self._server, match), headers)

    def _key_of(self, match: Match) -> bytes | None:
        """A text as it is, anything else as JSON; None where the row has no such field."""
        if self._key is None:
            return None
        value = orjson.loads(match.value).get(self._key)
        if value is None or isinstance(value, str):
            return None if value is None else value.encode()
        return orjson.dumps(value)
