"""Chunks as bytes between processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ostinato.cep.connectors.base import SLACK, BadRecord, Bytes, Chunk
from ostinato.cep.connectors.kafka.records import RecordBlock, pack_block, unpack_block
from ostinato.cep.runtime.wire import Pieces


def describe_chunk(chunk: Chunk) -> dict[str, Any]:
    """Everything of a chunk but its data, as plain values."""
    return {
        "size": chunk.size,
        "split": chunk.split,
        "source": chunk.source,
        "line": chunk.first_line,
        "offset": chunk.first_offset,
        "header": chunk.header,
        "rejected": [[r.raw, r.source, r.line, r.offset, r.reason] for r in chunk.rejected],
    }


def pack_chunk(chunk: Chunk) -> tuple[dict[str, Any], Pieces]:
    """A chunk as plain values and bytes."""
    head = describe_chunk(chunk)
    if isinstance(chunk.data, np.ndarray):
        return head, [chunk.data[: chunk.size + SLACK].data]
    if isinstance(chunk.data, RecordBlock):
        block, pieces = pack_block(chunk.data)
        return {**head, "block": block}, pieces
    import pyarrow

    target = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(target, chunk.data.schema) as writer:
        writer.write_table(chunk.data)
    return {**head, "arrow": True}, [memoryview(target.getvalue())]


def unpack_chunk(head: Mapping[str, Any], data: memoryview | Bytes) -> Chunk:
    """The chunk that `pack_chunk` or `describe_chunk` was given; it looks at `data`, which is not copied."""
    held: Any = np.frombuffer(data, np.uint8)
    if "block" in head:
        held = unpack_block(head["block"], held, head["size"])
    if head.get("arrow"):
        import pyarrow

        held = pyarrow.ipc.open_stream(data).read_all()
    return Chunk(
        held,
        head["size"],
        split=head["split"],
        source=head["source"],
        first_line=head["line"],
        first_offset=head["offset"],
        header=head["header"],
        rejected=tuple(BadRecord(*record) for record in head["rejected"]),
    )
