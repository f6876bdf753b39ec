"""The socket of a running job: takes what other commands ask of it, in threads of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ostinato.cep.runtime.checkpoints import CheckpointInfo
from ostinato.cep.runtime.commands import CommandError, Commands
from ostinato.server import protocol
from ostinato.server.protocol import Answer, Ask
from ostinato.server.registry import address_of
from ostinato.server.targets import address_of_savepoint
from ostinato.state.errors import StateError
from ostinato.state.typed import decode_json

_CONNECTIONS = 16
_LAST_WORDS_SECONDS = 5.0
"""So long a job that has ended waits for answers to be on their way."""
_REQUEST_SECONDS = 10.0
"""Who connects has so long to say what is wanted."""
_STUCK_SECONDS = 5.0
"""A cancelled job that has not noticed by then is held up in a write that nobody takes."""


class ControlSocket:
    """Listens until `close`, which waits for the answers under way."""

    def __init__(
        self,
        path: Path,
        job: str,
        commands: Commands,
        describe: Callable[[], Mapping[str, Any]],
        interrupt: Callable[[], None],
    ) -> None:
        """
        Args:
            path: where the socket is made, for this user alone.
            job: its name.
            commands: the way in to the job.
            describe: the answer to ``status``, plain values.
            interrupt: ends the job's current wait, whatever it waits for; for one that is cancelled and does not stir.

        Raises:
            OSError: the socket cannot be made.
        """
        self._path = path
        self._job = job
        self._commands = commands
        self._describe = describe
        self._interrupt = interrupt
        self._gone = threading.Event()
        self._busy = threading.Semaphore(_CONNECTIONS)
        self._serving: dict[threading.Thread, socket.socket] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with address_of(path) as address:
                self._listener.bind(address)
            path.chmod(0o600)
            self._listener.listen(_CONNECTIONS)
        except OSError:
            self._listener.close()
            raise
        self._accepting = threading.Thread(target=self._accept, name="control", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """The job is gone: say so to those who wait for that, and listen no more. The commands are closed by now."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._gone.set()
        serving = dict(self._serving)
        for connection in serving.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # who has not asked by now, asks in vain
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        for thread in (self._accepting, *serving):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not _is_ours(connection) or not self._busy.acquire(blocking=False):
                connection.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="control", daemon=True)
            self._serving[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_REQUEST_SECONDS)
                asked = _read_line(connection)
                if asked is None:
                    return
                answer, last = self._answer(asked)
                connection.sendall(protocol.line(answer))
                if last:
                    self._gone.wait()
        finally:
            self._serving.pop(threading.current_thread(), None)
            self._busy.release()

    def _answer(self, asked: bytes) -> tuple[Answer, bool]:
        """The answer, and whether the job ends with it."""
        try:
            ask = decode_json(asked, Ask)
        except msgspec.MsgspecError as error:
            return Answer(False, error=f"not a request of this release: {error}"), False
        try:
            match ask.do:
                case "status":
                    return Answer(True, self._describe()), False
                case "savepoint":
                    return Answer(True, self._say(self._commands.savepoint(ask.target).result())), False
                case "stop":
                    return Answer(True, self._say(self._commands.stop(ask.target, ask.drain).result())), True
                case "cancel":
                    self._cancel()
                    return Answer(True), True
        except (CommandError, StateError, ValueError) as error:
            return Answer(False, error=str(error) or type(error).__name__), False
        except Exception as error:  # noqa: BLE001 - the job goes on, and whoever asked is told
            return Answer(False, error=f"{type(error).__name__}: {error}"), False

    def _say(self, info: CheckpointInfo) -> dict[str, Any]:
        return checkpoint_values(info) | {"savepoint_address": address_of_savepoint(info.address, self._job, info.id)}

    def _cancel(self) -> None:
        future = self._commands.cancel()
        try:
            future.result(_STUCK_SECONDS)
        except TimeoutError:
            self._interrupt()
            # It ends with this, and what is left of its requests is refused.
            with contextlib.suppress(CommandError):
                future.result()


def checkpoint_values(info: CheckpointInfo) -> dict[str, Any]:
    """A checkpoint as plain values."""
    return {
        "id": info.id,
        "savepoint": info.savepoint,
        "address": info.address,
        "taken_at": info.taken_at,
        "seconds": round(info.seconds, 3),
        "bytes_written": info.bytes_written,
        "bytes_total": info.bytes_total,
    }


def _is_ours(connection: socket.socket) -> bool:
    """Is whoever has connected this user, or root? The folder keeps others out; so does this."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user in (0, os.getuid())


def _read_line(connection: socket.socket) -> bytes | None:
    read = b""
    while not read.endswith(b"\n"):
        piece = connection.recv(4096)
        if not piece or len(read) > protocol.MAX_REQUEST_BYTES:
            return None
        read += piece
    return read
