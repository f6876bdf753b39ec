"""Committing what a partition has done: its output, its input and its state at once, or none of it.

The Kafka transaction is the commit record. The numbers are those of docs/guarantees.md:

1. The partition is *cut* between two blocks of records. What came out before the cut is in the open transaction; every
   one of these records is waited for.
2. The snapshot of the cut is written to the store under a name that no other attempt uses, and proven durable. The one
   before it stays.
3. Into the same transaction go the offsets of the cut, and with them the snapshot's name and checksum. It is committed.
4. Only now older snapshots may go, but for one.

A process that dies before 3 has come about has done nothing: the transaction is aborted by whoever takes over. One that
dies after it has done everything. Nobody else can see, or build upon, anything in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from ostinato.cep.connectors.kafka.producers import Producer
from ostinato.cep.runtime.partitioned.position import Position
from ostinato.cep.runtime.partitioned.snapshots import Cut, NoSnapshots, Snapshots, Written
from ostinato.state.steps import reached


@dataclass(frozen=True, slots=True)
class CutAt:
    """A cut and where it is.

    Attributes:
        cut: the state.
        partition: the number.
        next: topic -> where reading goes on.
        began, watermark, idle: see `Position`.
    """

    cut: Cut
    partition: int
    next: Mapping[str, int]
    began: Mapping[str, int]
    watermark: int
    idle: bool


async def commit(producer: Producer, snapshots: Snapshots | NoSnapshots, thread: Executor, at: CutAt) -> Written:
    """Steps 1 to 4, in the event loop; what blocks is done by `thread`.

    Raises:
        StoreError: the snapshot was not written. The transaction is still open: a later cut may go into it.
        ConnectorError: the transaction may have been committed or not; the producer must be discarded.
    """
    loop = asyncio.get_running_loop()
    reached("txn.cut")
    # 1 and 2: both at the same time, and both before 3
    writing = asyncio.wrap_future(thread.submit(_write, snapshots, at.cut), loop=loop)
    try:
        await producer.drain()
    except BaseException:
        await asyncio.gather(writing, return_exceptions=True)
        raise
    written = await writing
    reached("txn.drained")
    # 3
    offsets = {(topic, at.partition): (offset, _kept(at, written, topic)) for topic, offset in at.next.items()}
    await producer.commit(offsets)
    reached("txn.committed")
    return written


def _write(snapshots: Snapshots | NoSnapshots, cut: Cut) -> Written:
    """Step 2; blocks."""
    written = snapshots.write(cut)
    reached("txn.snapshot")
    return written


def _kept(at: CutAt, written: Written, topic: str) -> str:
    """With each topic's offset where that topic was begun: brokers take 4 KiB, and there may be hundreds of topics."""
    began = {topic: at.began[topic]} if topic in at.began else {}
    return Position(snapshot=written.id, crc=written.crc, watermark=at.watermark, began=began, idle=at.idle).encode()


def tidy(snapshots: Snapshots | NoSnapshots, written: Written) -> None:
    """Step 4; blocks. Raises StoreError."""
    snapshots.tidy(written)
    reached("txn.tidied")
