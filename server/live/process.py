"""The live worker as the server sees it: a process that is begun again whenever it ends, and asked by messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from ostinato.cep.runtime.restarts import ExponentialDelay
from ostinato.server.failures import NotReadyError, RefusedError
from ostinato.server.live import messages
from ostinato.server.live.generation import Generation
from ostinato.server.live.messages import Frames
from ostinato.server.live.spec import WorkerSpec

log = logging.getLogger("ostinato.live")

ASK_SECONDS: Final = 10.0
PREPARE_SECONDS: Final = 60.0
"""A first start compiles kernels, which takes half a minute."""
_STOP_SECONDS: Final = 20.0


class LiveError(NotReadyError):
    """The live worker does not answer at the moment; what was asked can be asked again."""


class _Link:
    """Sends to one worker from any thread, without ever waiting for it."""

    def __init__(self, end: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.end = end
        self._loop = loop
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._durable = 0
        self._told = 0
        self._is_open = True
        end.setblocking(False)

    def send(self, message: messages.ToWorker) -> None:
        self._send(messages.frame(message))

    def durable(self, position: int) -> None:
        """Say how far the journal is durable; only the last word counts."""
        with self._lock:
            self._durable = max(self._durable, position)
            if self._pending:
                return
            self._told = self._durable
        self._send(messages.frame(messages.Durable(self._durable)))

    def _send(self, data: bytes) -> None:
        with self._lock:
            if not self._is_open:
                return
            if not self._pending:
                data = data[self._push(data) :]
            if not data:
                return
            self._pending += data
        self._loop.call_soon_threadsafe(self._watch)

    def _push(self, data: bytes | bytearray) -> int:
        try:
            return self.end.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._is_open = False  # it is gone; whoever reads notices
            return len(data)

    def _watch(self) -> None:
        with self._lock:
            if self._is_open and self._pending:
                self._loop.add_writer(self.end.fileno(), self._flush)

    def _flush(self) -> None:
        with self._lock:
            if self._is_open:
                del self._pending[: self._push(self._pending)]
                if not self._pending and self._told < self._durable:
                    self._told = self._durable
                    self._pending += messages.frame(messages.Durable(self._durable))
            if self._pending and self._is_open:
                return
        self._loop.remove_writer(self.end.fileno())

    def close(self) -> None:
        with self._lock:
            if not self._is_open and self.end.fileno() < 0:
                return
            self._is_open = False
            number = self.end.fileno()
        if number >= 0:
            self._loop.remove_writer(number)
            self._loop.remove_reader(number)
            self.end.close()


class Live:
    """Keeps a live worker going from `start` to `stop`. All methods but `journal_grew` are for the event loop."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self.state = "stopped"
        """``starting``, ``running``, ``waiting`` for the next attempt, ``stopped``."""
        self.position = 0
        """Up to here the journal has been dealt with."""
        self.last_seq = 0
        """The number of the last row in the match log."""
        self.generation = 0
        self.restarts = 0
        self.error: str | None = None
        """What ended the last worker; None: nothing has."""
        self.last_snapshot: messages.Snapshot | None = None
        self.snapshot_error: str | None = None
        self.exclusions: list[messages.Exclude] = []
        """Patterns that are left out, told to every worker before it begins."""
        self.on_rows: Callable[[int], None] = lambda _: None
        self.on_progress: Callable[[int], None] = lambda _: None
        self.on_snapshot: Callable[[messages.Snapshot], None] = lambda _: None
        self.on_failed: Callable[[messages.Failed], Awaitable[None]] | None = None
        self._durable = 0
        self._link: _Link | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._preparing: dict[int, asyncio.Future[None]] = {}
        self._activated: dict[int, messages.Activated] = {}
        self._changed = asyncio.Condition()
        self._asked = 0
        self._waiting = 0
        self._stopping = False

    # Its life

    async def start(self) -> None:
        """Begin; returns at once, `wait_until_ready` waits."""
        self._keeping = asyncio.create_task(self._keep(), name="live worker")

    async def wait_until_ready(self, seconds: float) -> None:
        """Raises LiveError where it is not running by then."""
        await self._wait_for(lambda: self.state == "running", seconds, "has not begun")

    async def stop(self) -> None:
        """Have a last snapshot taken, and end it."""
        self._stopping = True
        process, link = self._process, self._link
        if link is not None and process is not None and process.returncode is None:
            link.send(messages.Stop())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        if process is not None and process.returncode is None:
            process.kill()
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        self.state = "stopped"

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def _keep(self) -> None:
        strategy = ExponentialDelay(initial_ms=200, max_ms=10_000, reset_after_ms=60_000)
        while not self._stopping:
            began = time.monotonic()
            self.state = "starting"
            try:
                failed = await self._live()
            except Exception as error:
                log.exception("the live worker could not be looked after")
                self.error, failed = str(error), None
            if self._stopping:
                return
            self.restarts += 1
            self.state = "waiting"
            if failed is not None and self.on_failed is not None:
                self.error = failed.error
                log.error("a pattern cannot go on", extra={"pattern": failed.name, "position": failed.position})
                self.exclusions.append(messages.Exclude(failed.position, failed.name))
                await self._note(failed)
                continue
            log.error("the live worker has ended", extra={"reason": self.error, "restarts": self.restarts})
            ran_ms = round((time.monotonic() - began) * 1000)
            delay_ms = strategy.next_delay_ms(round(began * 1000), ran_ms) or 0
            await asyncio.sleep(delay_ms / 1000)

    async def _note(self, failed: messages.Failed) -> None:
        """It has to be known that a pattern is left out before the next worker begins; a full disk is waited for."""
        assert self.on_failed is not None
        while not self._stopping:
            try:
                await self.on_failed(failed)
            except Exception:
                log.exception("that a pattern has failed could not be written down; it is tried again")
                await asyncio.sleep(1.0)
            else:
                return

    async def _live(self) -> messages.Failed | None:
        """One worker, from its beginning to its end; what it says of a pattern that ended it."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ended: asyncio.Future[messages.Failed | None] = loop.create_future()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ostinato.server.live.worker_main", str(os.getpid()), str(theirs.fileno())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal is the server's business, who ends it in good order
            )
        except OSError as error:
            ours.close()
            self.error = f"cannot be started: {error}"
            return None
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process = process
        assert process.stdin is not None
        assert process.stderr is not None
        link = self._link = _Link(ours, loop)
        saying = asyncio.create_task(self._hear(process.stderr))
        frames = Frames.to_server()

        def read() -> None:
            try:
                data = ours.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(ours.fileno())
                if not ended.done():
                    ended.set_result(None)
                return
            for message in frames.feed(data):
                if isinstance(message, messages.Failed):
                    if not ended.done():
                        ended.set_result(message)
                else:
                    self._take(message)

        try:
            loop.add_reader(ours.fileno(), read)
            process.stdin.write(msgspec.json.encode(self._spec))
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            process.stdin.close()
            for exclude in self.exclusions:
                link.send(exclude)
            link.durable(self._durable)
            failed = await ended
            code = await process.wait()
            if failed is None:
                self.error = await saying or _obituary(code)
            return failed
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            saying.cancel()
            self._link = None
            link.close()
            self._forget("the live worker has ended; it is begun again")
            async with self._changed:
                self._changed.notify_all()

    async def _hear(self, stderr: asyncio.StreamReader) -> str:
        """Pass on what it writes; returns the last line."""
        last = ""
        while line := await stderr.readline():
            last = line.decode("utf-8", "replace").rstrip() or last
            log.warning("live worker: %s", last)
        return last

    def _forget(self, why: str) -> None:
        for future in (*self._answers.values(), *self._preparing.values()):
            if not future.done():
                future.set_exception(LiveError(why))
        self._answers.clear()
        self._preparing.clear()

    # What it says

    def _take(self, message: messages.ToServer) -> None:
        match message:
            case messages.Ready(position, seq, generation, said):
                self.position, self.generation, self.state = position, generation, "running"
                for text in said:
                    log.warning("live worker: %s", text)
                self._rows(seq)
            case messages.Progress(position, seq):
                self.position = position
                self._rows(seq)
                self.on_progress(position)
            case messages.Prepared(number, error):
                future = self._preparing.pop(number, None)
                if future is not None and not future.done():
                    if error is None:
                        future.set_result(None)
                    else:
                        future.set_exception(RefusedError(error))
            case messages.Activated():
                self.generation = message.number
                self._activated = {message.number: message}
            case messages.Answer(number, value, error):
                asked = self._answers.pop(number, None)
                if asked is not None and not asked.done():
                    if error is None:
                        asked.set_result(value)
                    else:
                        asked.set_exception(RefusedError(error))
                return
            case messages.Snapshot():
                self.last_snapshot, self.snapshot_error = message, None
                self.on_snapshot(message)
            case messages.SnapshotFailed(error):
                self.snapshot_error = error
                log.error("no snapshot could be written", extra={"reason": error})
        if self._waiting:
            asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _rows(self, seq: int) -> None:
        if seq - 1 > self.last_seq:
            self.last_seq = seq - 1
            self.on_rows(self.last_seq)

    # What is asked of it

    def journal_grew(self, position: int) -> None:
        """The journal is durable up to here; from any thread."""
        self._durable = max(self._durable, position)
        link = self._link
        if link is not None:
            link.durable(self._durable)

    async def prepare(self, generation: Generation, seconds: float = PREPARE_SECONDS) -> None:
        """Have a generation compiled.

        Raises:
            RefusedError: it cannot be.
            LiveError: the worker does not answer.
        """
        await self.wait_until_ready(seconds)
        future = asyncio.get_running_loop().create_future()
        self._preparing[generation.number] = future
        assert self._link is not None
        self._link.send(messages.Prepare(generation))
        try:
            await asyncio.wait_for(future, seconds)
        except TimeoutError:
            raise LiveError(f"the patterns are not compiled after {seconds:g} s") from None

    async def wait_for_position(self, position: int, seconds: float) -> bool:
        """Wait until the journal has been dealt with up to here; whether it has."""
        try:
            await self._wait_for(lambda: self.position >= position, seconds, "")
        except LiveError:
            return False
        return True

    def activation(self, number: int) -> messages.Activated | None:
        """What was said when a generation took effect, if it was the last one."""
        return self._activated.get(number)

    async def ask(self, what: str, arguments: dict[str, Any] | None = None, seconds: float = ASK_SECONDS) -> Any:
        """Ask a question.

        Raises:
            RefusedError: there is no answer to it.
            LiveError: the worker does not answer.
        """
        await self.wait_until_ready(seconds)
        link = self._link
        if link is None:
            raise LiveError(f"the live worker is {self.state}{f': {self.error}' if self.error else ''}")
        self._asked += 1
        number = self._asked
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        link.send(messages.Ask(number, what, arguments or {}))
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            self._answers.pop(number, None)
            raise LiveError(f"the live worker has not answered within {seconds:g} s") from None

    async def _wait_for(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            reason = f": {self.error}" if self.error else ""
            raise LiveError(f"the live worker {what} within {seconds:g} s{reason}") from None
        finally:
            self._waiting -= 1


def _obituary(code: int) -> str:
    if code < 0:
        hint = "; out of memory?" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    return f"ended with code {code}"
