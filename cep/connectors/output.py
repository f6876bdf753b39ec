"""Where lines are written: files and streams that only ever hold whole lines."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from ostinato.cep.connectors.base import SinkError, advice

BUFFER_BYTES = 1 << 18
"""So much is gathered before it is given to the operating system."""


class LineFile:
    """Writes whole lines to a file descriptor; when a write fails halfway, the torn line is taken back."""

    def __init__(self, name: str, descriptor: int, *, owned: bool) -> None:
        """`name` is for messages. `owned`: it is closed here."""
        self.name = name
        self._descriptor = descriptor
        self._owned = owned
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._failed = False
        self._closed = False

    @staticmethod
    def create(path: str, *, append: bool = False) -> LineFile:
        """Open a file for writing, anew or behind what it holds. Raises SinkError."""
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
        try:
            if not Path(path).parent.is_dir():
                raise SinkError(f"cannot write {path}: there is no folder {Path(path).parent}; make it first")
            return LineFile(path, os.open(path, flags, 0o666), owned=True)
        except OSError as error:
            raise SinkError(f"cannot write {path}: {advice(error)}") from error

    @staticmethod
    def of_stream(stream: Any, name: str) -> LineFile:
        """Write to an open stream such as ``sys.stdout``; it is not closed. Raises SinkError where it is closed."""
        if stream is None or stream.closed:
            raise SinkError(f"cannot write {name}: it is closed")
        try:
            stream.flush()
            return LineFile(name, stream.fileno(), owned=False)
        except io.UnsupportedOperation:
            return _StreamFile(name, stream)
        except OSError as error:
            raise SinkError(f"cannot write {name}: {advice(error)}") from error

    def write(self, lines: bytes) -> None:
        """Take whole lines; they are on their way at the latest at `flush`."""
        if lines:
            self._held.append(lines)
            self._held_bytes += len(lines)
            if self._held_bytes >= BUFFER_BYTES:
                self.flush()

    def flush(self) -> None:
        if self._failed or not self._held:
            return
        data = memoryview(b"".join(self._held))
        self._held, self._held_bytes = [], 0
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except BlockingIOError:
            self._wait_and_write(data[written:])
        except OSError as error:
            self._failed = True
            self._take_back(data[:written])
            raise SinkError(f"cannot write {self.name}: {advice(error)}") from error

    def _wait_and_write(self, data: memoryview) -> None:
        """Somebody made the descriptor non-blocking: wait for it as a blocking one would."""
        import select

        written = 0
        while written < len(data):
            select.select([], [self._descriptor], [])
            try:
                written += os.write(self._descriptor, data[written:])
            except BlockingIOError:
                continue
            except OSError as error:
                self._failed = True
                raise SinkError(f"cannot write {self.name}: {advice(error)}") from error

    def _take_back(self, written: memoryview) -> None:
        """Cut the file behind the last whole line of what was written before it failed."""
        torn = len(written) - (bytes(written).rfind(b"\n") + 1)
        if torn and self._owned:
            with contextlib.suppress(OSError):
                size = os.fstat(self._descriptor).st_size
                os.ftruncate(self._descriptor, size - torn)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.flush()
        finally:
            if self._owned:
                try:
                    os.close(self._descriptor)
                except OSError as error:
                    raise SinkError(f"cannot write {self.name}: {advice(error)}") from error


class _StreamFile(LineFile):
    """Writes to a stream that is only in memory, as in tests of a command."""

    def __init__(self, name: str, stream: Any) -> None:
        super().__init__(name, -1, owned=False)
        self._stream = stream

    def flush(self) -> None:
        data = b"".join(self._held)
        self._held, self._held_bytes = [], 0
        if hasattr(self._stream, "buffer"):
            self._stream.buffer.write(data)
        elif isinstance(self._stream, io.TextIOBase):
            self._stream.write(data.decode())
        else:
            self._stream.write(data)
        self._stream.flush()
