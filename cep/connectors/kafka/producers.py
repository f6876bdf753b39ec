"""Producers whose records belong to the offsets of one input partition.

`TransactionalProducer` puts both into one Kafka transaction. It is thrown away at the first sign that a request may
have been done or not: aiokafka would send it again with the same epoch, and a delayed first one could then end the
*next* transaction (Jepsen's report on Bufstream, 2024). The next producer with the same transactional id settles what
was open. `PlainProducer` sends, and commits offsets afterwards: at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from ostinato.cep.connectors.kafka.errors import FencedProducerError, ProducerLostError, TooLargeError, explain
from ostinato.cep.connectors.kafka.options import Connection
from ostinato.state.steps import reached

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

_BATCH_BYTES: Final = 256 << 10
_STOP_SECONDS: Final = 5.0
_SETTLING_SECONDS: Final = 0.05
_INDEFINITE: Final = frozenset({0, 24, 25, 26, 28})
"""Produce, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit, by the numbers of the protocol."""

Offsets: TypeAlias = Mapping[tuple[str, int], tuple[int, str]]
"""(topic, partition) -> the offset where reading goes on, and what is kept with it."""


@dataclass(frozen=True, slots=True)
class OutRecord:
    """A record to be written. `partition` None: by the key, as Kafka's own clients do."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """What all producers of a job have in common; see `KafkaTarget`."""

    connection: Connection
    compression: str | None = None
    transaction_timeout_ms: int = 60_000
    linger_ms: int = 0
    max_request_size: int = 1_048_576


class Producer(Protocol):
    """Belongs to an event loop. Raises ConnectorError; after that it must be discarded."""

    @property
    def is_open(self) -> bool:
        """Has a transaction been begun that is not committed? For any thread."""

    async def start(self) -> None: ...

    async def send(self, records: Sequence[OutRecord]) -> None:
        """Write records, behind all that were sent before."""

    async def drain(self) -> None:
        """Wait until every record has been acknowledged."""

    async def commit(self, offsets: Offsets) -> None:
        """Let the offsets hold, and with them what was sent."""

    async def discard(self) -> None:
        """Close it, without a word to the broker about what is open."""


class _Sending:
    """What both have in common."""

    def __init__(self, settings: ProducerSettings, place: str, transactional_id: str | None) -> None:
        self._settings = settings
        self._place = place
        self._id = transactional_id
        self.is_open = False
        self._turn = asyncio.Lock()
        self._sent: list[asyncio.Future[Any]] = []
        self._inner: AIOKafkaProducer | None = None
        self._failure: BaseException | None = None
        """Once a record could not be written nothing else may be: a commit without it would lose it."""

    async def start(self) -> None:
        from aiokafka import AIOKafkaProducer

        given = self._settings
        own: dict[str, Any] = {}
        if self._id is not None:
            own = {"transactional_id": self._id, "transaction_timeout_ms": given.transaction_timeout_ms}
        self._inner = producer = AIOKafkaProducer(
            **given.connection.settings(),
            **own,
            enable_idempotence=True,
            compression_type=given.compression,
            linger_ms=given.linger_ms,
            max_request_size=given.max_request_size,
            max_batch_size=min(_BATCH_BYTES, given.max_request_size),
        )
        try:
            await producer.start()
        except BaseException as error:
            await self.discard()
            if isinstance(error, Exception):
                raise explain(error, self._place) from error
            raise

    async def send(self, records: Sequence[OutRecord]) -> None:
        async with self._turn:
            producer = self._producer
            try:
                await self._begin()
                for record in records:
                    sent = await producer.send(
                        record.topic,
                        record.value,
                        record.key,
                        record.partition,
                        headers=list(record.headers),
                    )
                    self._sent.append(sent)
            except BaseException as error:
                raise self._lost(error) from error

    async def drain(self) -> None:
        async with self._turn:
            await self._drain()

    async def discard(self) -> None:
        producer, self._inner = self._inner, None
        for sent in self._sent:
            sent.add_done_callback(_forget)
        self._sent = []
        if producer is None:
            return
        # What is on its way need not arrive: aiokafka would wait for it, and for the broker.
        gone = ProducerLostError(f"{self._place}: the producer was discarded")
        accumulator = producer._message_accumulator
        accumulator.fail_all(gone)
        for batch in (*chain.from_iterable(accumulator._batches.values()), *accumulator._pending_batches):
            batch._drain_waiter.add_done_callback(_forget)
        manager = producer._txn_manager
        if manager is not None and manager._transaction_waiter is not None:
            manager._transaction_waiter.add_done_callback(_forget)
        producer._closed = True
        task = producer._sender.sender_task
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=_STOP_SECONDS)
            if task.done() and not task.cancelled():
                task.exception()
        await producer.client.close()

    async def _begin(self) -> None:
        """Before records are sent."""

    async def _drain(self) -> None:
        """Raises where anything has failed that was written, ever."""
        producer = self._producer
        sent, self._sent = self._sent, []
        assert producer is not None
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise self._lost(outcome) from outcome

    @property
    def _producer(self) -> AIOKafkaProducer:
        if self._inner is None:
            raise ProducerLostError(f"{self._place}: the producer was discarded")
        if self._failure is not None:
            raise self._failure
        return self._inner

    def _lost(self, error: BaseException) -> BaseException:
        """What went wrong, as an error of ours; what is no matter of Kafka's stays as it is. Nothing is written or
        committed any more after it."""
        self._failure = said = self._told(error)
        return said

    def _told(self, error: BaseException) -> BaseException:
        from aiokafka.errors import IllegalOperation, KafkaError

        # After an error in its background aiokafka says by the last two that there is no transaction any more.
        lost = (KafkaError, OSError, TimeoutError, IllegalOperation, AssertionError)
        if isinstance(error, ProducerLostError) or not isinstance(error, lost):
            return error
        said = explain(error, self._place)
        if isinstance(said, TooLargeError):
            return said
        kind = FencedProducerError if isinstance(said, FencedProducerError) else ProducerLostError
        return kind(str(said))


class TransactionalProducer(_Sending):
    """Records, and the offsets of the input that they come from, in one transaction.

    Starting it fences every earlier producer with the same transactional id and settles its transaction.
    """

    def __init__(self, settings: ProducerSettings, transactional_id: str, group: str) -> None:
        """`group`: the consumer group whose offsets are committed."""
        super().__init__(settings, f"transactions of {transactional_id}", transactional_id)
        self._group = group
        self.tainted: str | None = None
        """Why nobody knows what the broker has done; None: it is known."""

    async def start(self) -> None:
        await super().start()
        self._watch()

    async def commit(self, offsets: Offsets) -> None:
        from aiokafka import TopicPartition
        from aiokafka.structs import OffsetAndMetadata

        async with self._turn:
            producer = self._producer
            try:
                await self._drain()
                await self._begin()
                reached("txn.offsets")
                given = {TopicPartition(*place): OffsetAndMetadata(*held) for place, held in offsets.items()}
                await producer.send_offsets_to_transaction(given, self._group)
                reached("txn.commit")
                await producer.commit_transaction()
            except BaseException as error:
                raise self._lost(error) from error
            self.is_open = False

    async def _begin(self) -> None:
        if not self.is_open:
            await self._producer.begin_transaction()
            self.is_open = True

    def _watch(self) -> None:
        """Let no request be sent a second time of which nobody knows what became the first time."""
        from aiokafka.errors import KafkaError, NodeNotReadyError

        client = self._producer.client
        inner = client.send

        async def send(node: Any, request: Any, **how: Any) -> Any:
            if self.tainted is not None:
                raise _IndefiniteError(self.tainted)
            try:
                return await inner(node, request, **how)
            except NodeNotReadyError:
                raise  # it was never sent
            except (KafkaError, TimeoutError) as error:
                if request.API_KEY not in _INDEFINITE:
                    raise
                self.tainted = f"{self._place}: no answer to {type(request).__name__}: {error}"
                raise _IndefiniteError(self.tainted) from error

        client.send = send

    def _told(self, error: BaseException) -> BaseException:
        if self.tainted is not None:
            return ProducerLostError(f"{self.tainted}; the producer is thrown away")
        return super()._told(error)


class PlainProducer(_Sending):
    """Records first, then the offsets: what lies between two commits may come twice."""

    def __init__(
        self, settings: ProducerSettings, place: str, commit_offsets: Callable[[Offsets], Awaitable[None]]
    ) -> None:
        """`commit_offsets`: in the name of the member of the group."""
        super().__init__(settings, place, None)
        self._commit_offsets = commit_offsets

    async def commit(self, offsets: Offsets) -> None:
        async with self._turn:
            await self._drain()
            try:
                reached("txn.offsets")
                reached("txn.commit")
                await self._commit_offsets(offsets)
            except BaseException as error:
                raise self._lost(error) from error


class _IndefiniteError(Exception):
    """No error of Kafka's, so that aiokafka does not try again."""


def _forget(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()
