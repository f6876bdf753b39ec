"""A Parquet file of rows that come exactly once.

A Parquet file can only be written in one go. So rows are first appended to a hidden file beside the target,
``.NAME.ostinato-rows-TOKEN``, as an Arrow stream: `prepare` makes it durable, `recover` cuts off what came later. When
the job ends, `finish` makes the Parquet file of it, under its name when it is whole, and deletes the hidden file.

A job may go on after that, from a savepoint or a checkpoint that was kept: the Parquet file says in its metadata of
which hidden files it was made, so the first rows of it can take the place of the one that is gone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import SinkError
from ostinato.cep.connectors.parquet_sink import GROUP_ROWS, table_of
from ostinato.cep.connectors.room import Room, failing, is_no_room, sync, sync_folder
from ostinato.state.steps import reached

LINEAGE = b"ostinato.rows"
"""Under which the metadata of a Parquet file say where its rows come from."""
_TAIL_BYTES = 4096


class TransactionalParquet:
    """Rows in a Parquet file, each exactly once; the file appears when the job has ended."""

    _rows: int
    """In the hidden file; `_committed` of them belong to a complete checkpoint."""
    _committed: int
    _size: int
    """Bytes in the hidden file; `_synced` of them are durable."""
    _synced: int

    def __init__(self, name: str, path: str, room: Room) -> None:
        """Touches nothing. Raises SinkError where there is no such folder."""
        self.name = name
        self.path = os.path.realpath(path)
        self._said = path
        self._folder, base = os.path.split(self.path)
        if not Path(self._folder).is_dir():
            raise SinkError(f"cannot write {path}: there is no folder {Path(path).parent}; make it first")
        self._room = room
        self._prefix = f".{base}.ostinato-rows-"
        self._lineage: list[tuple[str, int]] = []
        self._begin()

    def write(self, batch: Batch) -> None:
        if not batch.columns or not len(batch):
            return
        self._tables.append(table_of(batch))
        self._held += len(batch)
        if self._held >= GROUP_ROWS:
            self._drain()

    def flush(self) -> None:
        """Do nothing: rows of a Parquet file can be read only when it is whole."""

    def prepare(self, checkpoint: int) -> dict[str, Any]:  # noqa: ARG002 - there is one file
        reached("sink.prepare")
        self._drain()
        if self._file is not None and self._size > self._synced:
            sync(self._said, self._file)
            if not self._synced:
                sync_folder(self._said, self._folder)
            self._synced = self._size
        state = {
            "path": self.path,
            "token": self._token,
            "size": self._size,
            "rows": self._rows,
            "tail": self._tail(self._size),
            "lineage": [list(part) for part in self._lineage],
        }
        reached("sink.prepared")
        return state

    def commit(self, state: Mapping[str, Any]) -> None:
        """The rows stay where they are until the job ends."""
        reached("sink.publish")
        self._committed = max(self._committed, state["rows"])
        reached("sink.published")

    def recover(self, state: Mapping[str, Any] | None) -> None:
        with failing(self._said):
            self._forget()
            self._begin()
            if state is not None and state["rows"]:
                self._go_on(state)
            for path in self._leftovers():
                path.unlink(missing_ok=True)
        reached("sink.recovered")

    def finish(self) -> None:
        """Make the Parquet file. Rows that belong to no complete checkpoint are left to the next run."""
        if self._rows != self._committed or self._held or self._file is None:
            return
        reached("sink.publish")
        part = self._beside(f"{self._prefix}whole")
        while True:
            try:
                self._compose(part)
                break
            except OSError as error:
                with contextlib.suppress(OSError):
                    Path(part).unlink()
                if not is_no_room(error):
                    raise SinkError(f"cannot write {self._said}: {error.strerror or error}") from error
                self._room.wait(self._said, self._folder, error, self._size)
        self._room.found(self._said)
        with failing(self._said):
            reached("sink.publishing")
            Path(part).replace(self.path)
            sync_folder(self._said, self._folder)
            reached("publish.file")
            self._forget()
            Path(self._rows_path).unlink(missing_ok=True)
        reached("sink.published")

    def close(self) -> None:
        """Make the Parquet file, unless there are rows that belong to no complete checkpoint."""
        try:
            self.finish()
        finally:
            with failing(self._said):
                self._forget()

    # the hidden file

    @property
    def _rows_path(self) -> str:
        return self._beside(self._prefix + self._token)

    def _begin(self) -> None:
        """No rows, and a hidden file that is not made yet."""
        self._token = secrets.token_hex(8)
        self._file: int | None = None
        self._tables: list[Any] = []
        self._held = 0
        self._schema: Any = None
        self._rows = 0
        self._committed = 0
        self._size = 0
        self._synced = 0
        self._lineage = []

    def _drain(self) -> None:
        """Append what is held to the hidden file."""
        if not self._tables:
            return
        import pyarrow

        table = pyarrow.concat_tables(self._tables)
        if self._schema is not None and table.schema != self._schema:
            raise SinkError(
                f"cannot go on with {self._said}: it has the columns {', '.join(self._schema.names)}, the job now "
                f"writes {', '.join(table.schema.names)}, or of other types; go on in another file"
            )
        if self._file is None:
            self._file = self._room.open(self._said, self._rows_path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        data = _messages(table, with_schema=not self._size)
        self._room.write(self._said, self._file, data, self._size)
        self._schema = table.schema
        self._size += len(data)
        self._rows += self._held
        self._tables, self._held = [], 0

    def _tail(self, end: int) -> int:
        """CRC-32 of the last bytes before `end` in the hidden file."""
        if self._file is None:
            return 0
        begin = max(0, end - _TAIL_BYTES)
        return zlib.crc32(os.pread(self._file, end - begin, begin))

    def _forget(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _beside(self, name: str) -> str:
        return os.path.join(self._folder, name)  # noqa: PTH118

    def _leftovers(self) -> list[Path]:
        used = self._prefix + self._token
        return [
            path for path in Path(self._folder).iterdir() if path.name.startswith(self._prefix) and path.name != used
        ]

    # recovery

    def _go_on(self, state: Mapping[str, Any]) -> None:
        import pyarrow.ipc

        path = self._beside(self._prefix + state["token"])
        if not Path(path).exists():
            self._take_from_target(state)
            return
        size = Path(path).stat().st_size
        if size < state["size"]:
            raise SinkError(
                f"cannot go on with {self._said}: its pending rows in {path} have {size} bytes, and had "
                f"{state['size']} when the checkpoint was taken; an older checkpoint may do"
            )
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._token = state["token"]
        if self._tail(state["size"]) != state["tail"]:
            raise SinkError(
                f"cannot go on with {self._said}: its pending rows in {path} are not those that were written before "
                "the checkpoint; resume the newest one"
            )
        if size > state["size"]:
            self._room.say(f"{self._said}: {size - state['size']} bytes that came after the checkpoint are taken back")
            os.ftruncate(self._file, state["size"])
            sync(self._said, self._file)
        with pyarrow.ipc.open_stream(path) as stream:
            self._schema = stream.schema
        self._size = self._synced = state["size"]
        self._rows = self._committed = state["rows"]
        self._lineage = [(token, rows) for token, rows in state["lineage"]]

    def _take_from_target(self, state: Mapping[str, Any]) -> None:
        """The job had ended, and goes on all the same: begin with the first rows of what it had written."""
        import pyarrow.parquet

        if not Path(self.path).exists():
            self._room.say(
                f"{self._said} is gone, with {state['rows']} rows that the checkpoint knows of; going on in a new file"
            )
            return
        made_of = lineage_of(self.path)
        wanted = [(token, rows) for token, rows in state["lineage"]]
        at = len(wanted)
        if made_of[:at] != wanted or len(made_of) <= at or made_of[at][0] != state["token"]:
            fits = False
        else:
            fits = made_of[at][1] >= state["rows"]
        if not fits:
            raise SinkError(
                f"cannot go on with {self._said}: it does not hold the {state['rows']} rows that were written before "
                "the checkpoint; put back the file as it was, or move it away to go on in a new one"
            )
        self._lineage = [*wanted, (state["token"], state["rows"])]
        left = state["rows"]
        file = pyarrow.parquet.ParquetFile(self.path)
        try:
            for batch in file.iter_batches(batch_size=GROUP_ROWS):
                taken = pyarrow.Table.from_batches([batch.slice(0, left)]).replace_schema_metadata(None)
                self._tables.append(taken)
                self._held += taken.num_rows
                self._drain()
                left -= taken.num_rows
                if not left:
                    break
        finally:
            file.close()
        assert self._file is not None
        sync(self._said, self._file)
        sync_folder(self._said, self._folder)
        self._synced = self._size
        self._committed = self._rows

    # the end

    def _compose(self, part: str) -> None:
        """Write the Parquet file under a passing name, and have it on the disk."""
        import pyarrow.parquet

        made_of = [*self._lineage, (self._token, self._rows)]
        schema = self._schema.with_metadata({LINEAGE: orjson.dumps(made_of)})
        with pyarrow.parquet.ParquetWriter(part, schema, compression="zstd") as writer:
            for table in _groups(self._rows_path):
                writer.write_table(table.replace_schema_metadata(schema.metadata))
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def lineage_of(path: str) -> list[tuple[str, int]]:
    """Of which hidden files the rows of a Parquet file come: (token, rows in all until then)."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(path).metadata or {}
    except pyarrow.ArrowException:
        return []
    return [(token, rows) for token, rows in orjson.loads(metadata.get(LINEAGE, b"[]"))]


def _messages(table: Any, *, with_schema: bool) -> memoryview:
    """A table as messages of an Arrow stream, without an end."""
    import pyarrow
    import pyarrow.ipc

    buffer = pyarrow.BufferOutputStream()
    options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
    with pyarrow.ipc.new_stream(buffer, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())
        end = buffer.tell()
    begin = 0 if with_schema else table.schema.serialize().size
    return memoryview(buffer.getvalue())[begin:end]


def _groups(path: str) -> Iterator[Any]:
    """The rows of a hidden file as tables of about one row group each."""
    import pyarrow
    import pyarrow.ipc

    with pyarrow.OSFile(path) as file, pyarrow.ipc.open_stream(file) as stream:
        held: list[Any] = []
        for batch in stream:
            held.append(batch)
            if sum(each.num_rows for each in held) >= GROUP_ROWS:
                yield pyarrow.Table.from_batches(held).combine_chunks()
                held = []
        if held:
            yield pyarrow.Table.from_batches(held).combine_chunks()
