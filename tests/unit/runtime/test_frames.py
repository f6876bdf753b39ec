"""Batches as bytes and back, and messages over a socket."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from ostinato.cep.batch import Batch, Strings, Vector
from ostinato.cep.connectors.base import BadRecord, Chunk
from ostinato.cep.runtime.frames import FrameError, decode, encode
from ostinato.cep.runtime.packing import pack_chunk, unpack_chunk
from ostinato.cep.runtime.python_rows import OBJECT
from ostinato.cep.runtime.wire import Kind, Wire, pack, unpack
from ostinato.patterns.types import BIGINT, BOOLEAN, DOUBLE, STRING, Array, DataType, Row

SCHEMA: dict[str, dict[str, DataType]] = {
    "s": {"text": STRING, "number": BIGINT, "real": DOUBLE, "flag": BOOLEAN, "list": Array(Row((("a", BIGINT),)))}
}


def sample() -> Batch:
    return Batch(
        "s",
        np.array([3, 1, 2], np.int64),
        {
            "text": Vector.of(STRING, ["é", None, ""]),
            "number": Vector.of(BIGINT, [2**62, None, -1]),
            "real": Vector.of(DOUBLE, [0.1, float("inf"), -0.0]),
            "flag": Vector.of(BOOLEAN, [True, False, None]),
            "list": Vector.of(SCHEMA["s"]["list"], [[{"a": 1}], [], None]),
        },
    )


def rows(batch: Batch) -> list[dict[str, object]]:
    return [batch.row(index) for index in range(len(batch))]


def joined(batch: Batch) -> bytearray:
    return bytearray(b"".join(bytes(piece) for piece in encode(batch)))


def test_a_batch_comes_back_as_it_was() -> None:
    back = decode(joined(sample()), SCHEMA)
    assert back.stream == "s"
    assert back.time.tolist() == [3, 1, 2]
    assert rows(back) == rows(sample())


@pytest.mark.parametrize("taken", [[], [2], [2, 0]])
def test_any_rows_of_a_batch(taken: list[int]) -> None:
    part = sample().take(np.array(taken, np.int64))
    assert rows(decode(joined(part), SCHEMA)) == rows(part)


def test_only_the_text_of_the_rows_is_sent() -> None:
    shared = Strings.of(["x" * 100_000, "y"])
    batch = Batch("s", np.zeros(1, np.int64), {"text": Vector(STRING, shared.take(np.array([1])))})
    assert len(joined(batch)) < 500


def test_numbers_start_where_kernels_like_them_and_can_be_written() -> None:
    back = decode(joined(sample()), SCHEMA)
    for array in (back.time, back.columns["number"].array, back.columns["real"].array):
        assert array.ctypes.data % 8 == 0
        assert array.flags.writeable


def test_columns_that_no_schema_knows() -> None:
    batch = Batch(
        "s", np.zeros(2, np.int64), {"number": Vector.of(STRING, ["a", "b"]), "o": Vector.of(OBJECT, [{}, [1]])}
    )
    back = decode(joined(batch), SCHEMA)
    assert [vector.to_list() for vector in back.columns.values()] == [["a", "b"], [{}, [1]]]


def test_bytes_of_another_version_or_of_nothing_are_refused() -> None:
    frame = joined(sample())
    with pytest.raises(FrameError, match="cut short"):
        decode(frame[: len(frame) // 2], SCHEMA)
    with pytest.raises(FrameError):
        decode(bytearray(b"nonsense" * 4), SCHEMA)


def test_messages_over_a_socket() -> None:
    left, right = socket.socketpair()
    one, other = Wire(left), Wire(right)
    frames = [[b"x" * size] for size in (0, 1, 7, 8, 3_000_000)]
    sender = threading.Thread(target=one.send, args=(Kind.ROWS, 41, pack({"k": [1, None]}, frames)))
    sender.start()
    message = other.receive()
    sender.join()
    assert message is not None
    assert (message.kind, message.sequence) == (Kind.ROWS, 41)
    head, parts = unpack(message.payload)
    assert head == {"k": [1, None]}
    assert [bytes(part) for part in parts] == [frame[0] for frame in frames]
    one.close()
    assert other.receive() is None
    other.close()


def test_a_chunk_of_text() -> None:
    bad = BadRecord(b"\xff", "f", 3, 10, "why")
    chunk = Chunk.of(b"a\nb\n", split=2, source="f", first_line=7, first_offset=99, header=b"h", rejected=(bad,))
    head, pieces = pack_chunk(chunk)
    back = unpack_chunk(head, memoryview(bytearray(b"".join(bytes(piece) for piece in pieces))))
    assert bytes(back.text) == b"a\nb\n"
    assert (back.split, back.source, back.first_line, back.first_offset) == (2, "f", 7, 99)
    assert (back.header, back.rejected) == (b"h", (bad,))
    # what must stand behind the text for kernels to read whole words
    assert bytes(back.data[back.size : back.size + 2]) == b"\n\0"


def test_a_chunk_of_parquet() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": [1, None, 3]})
    head, pieces = pack_chunk(Chunk(table, 3))
    back = unpack_chunk(head, memoryview(bytearray(b"".join(bytes(piece) for piece in pieces))))
    assert back.data.equals(table)
