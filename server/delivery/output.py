"""One output: reads the log from its cursor, and brings to its target what is wanted, in order."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ostinato.server.delivery.cursors import CursorStore
from ostinato.server.delivery.dead_letters import OutputDeadLetters
from ostinato.server.delivery.errors import BrokenError, OutputError, RefusedError, RetryError
from ostinato.server.delivery.settings import FileOutput, KafkaOutput, OutputContext, OutputSettings, WebhookOutput
from ostinato.server.delivery.status import OutputStatus
from ostinato.server.delivery.target import Target
from ostinato.server.matches import Match, MatchesGoneError, MatchLogError, MatchLogReader
from ostinato.state.steps import reached

_log = logging.getLogger(__name__)

_State: TypeAlias = Literal["running", "retrying", "paused", "failed", "stopped"]
_CURSOR_SECONDS: Final = 1.0
"""While nothing is wanted of what comes, the cursor is written down so often."""
_STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before attempt n is drawn between half of `first_seconds` * 2^n, or of `most_seconds`, and that."""

    first_seconds: float = 0.5
    most_seconds: float = 60.0

    def pause(self, attempts: int) -> float:
        longest = min(self.most_seconds, self.first_seconds * (1 << min(attempts - 1, 30)))
        return longest * random.uniform(0.5, 1)  # noqa: S311 - so that not all come back at once


class Output:
    """Runs as a task of an event loop until it is closed. What goes wrong is its own affair: it shows in `status`."""

    def __init__(
        self,
        name: str,
        settings: OutputSettings,
        context: OutputContext,
        cursors: CursorStore,
        backoff: Backoff | None = None,
    ) -> None:
        """Raises OutputError."""
        self.name = name
        self.settings = settings
        self._context = context
        self._cursors = cursors
        self._backoff = backoff or Backoff()
        self._target = target_of(name, settings, context)
        self._wanted = settings.wanted
        self._reader = MatchLogReader(context.matches)
        self._dead_letters = OutputDeadLetters(context.folder, name, context.server)
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._paused = settings.paused
        self._stopping = False
        self._is_open = False
        self._state: _State = "paused" if settings.paused else "running"
        self._cursor = 0
        self._written_down = -1
        self._written_at = 0.0
        self._last_seq = 0
        self._pending: tuple[Sequence[Match], int] | None = None
        self._delivered = self._attempts = self._lost = self._dead = self._retries = 0
        self._error: str | None = None
        self._next_attempt_ms: int | None = None
        self._last_delivery_ms: int | None = None

    async def prepare(self) -> None:
        """Settle where a new output begins, durably, so that it does not miss what comes before it first works.

        Raises MatchLogError, and what the cursors' store does.
        """
        self._last_seq = await asyncio.to_thread(lambda: self._reader.last_seq)
        kept = await asyncio.to_thread(self._cursors.get, self.name)
        if kept is None:
            first = await asyncio.to_thread(lambda: self._reader.first_seq)
            kept = first - 1 if self.settings.start == "earliest" else self._last_seq
            await asyncio.to_thread(self._cursors.put, {self.name: kept})
        self._cursor = self._written_down = kept

    def start(self) -> None:
        """Begin to work. `prepare` was called before."""
        self._task = asyncio.create_task(self._run(), name=f"output-{self.name}")

    def grown(self, last_seq: int) -> None:
        """The log has rows up to this one by now."""
        self._last_seq = max(self._last_seq, last_seq)
        if not self._paused and self._state == "running":
            self._woken.set()

    def pause(self) -> None:
        """Deliver nothing more, but what is on its way."""
        self._paused = True
        self._woken.set()

    def resume(self) -> None:
        """Go on after a pause, or after a failure."""
        self._paused = False
        self._woken.set()

    async def close(self) -> None:
        """End. What is on its way has a few seconds; what nobody has confirmed by then comes again."""
        self._stopping = True
        self._woken.set()
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=_STOP_SECONDS)
            if not done:
                self._task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._task
        with suppress(Exception):  # it is written down again
            await self._write_down()
        await self._target.close()
        await asyncio.to_thread(self._reader.close)
        self._state = "stopped"

    @property
    def status(self) -> OutputStatus:
        return OutputStatus(
            self._state, self._cursor, max(0, self._last_seq - self._cursor), self._delivered, self._attempts,
            self._lost, self._dead, self._retries, self._error, self._next_attempt_ms, self._last_delivery_ms,
        )  # fmt: skip

    async def _run(self) -> None:
        while not self._stopping:
            try:
                if self._paused:
                    self._state = "paused"
                    await self._close_target()
                    await self._wait(None)
                    continue
                self._state = "retrying" if self._attempts else "running"
                if not self._is_open:
                    await self._open()
                await self._step()
            except RetryError as error:
                await self._retry(str(error), error.after_seconds)
            except RefusedError as error:
                await self._fail(str(error))
            except (BrokenError, OutputError) as error:
                await self._fail(str(error))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - an output never ends the server
                _log.exception("output %s", self.name)
                await self._retry(f"{type(error).__name__}: {error}", None)

    async def _open(self) -> None:
        own = await self._target.open()
        self._is_open = True
        if self._target.has_own_cursor:
            self._pending = None
            # its own is the truth of what is there; ours may be further, over rows that were not wanted
            self._cursor = max(self._cursor, own or 0)

    async def _step(self) -> None:
        """One batch, or a wait for one."""
        if self._pending is None:
            self._pending = await self._next()
        if self._pending is None:
            await self._wait(_CURSOR_SECONDS if self._written_down != self._cursor else None)
            if self._written_down != self._cursor and time.monotonic() - self._written_at > _CURSOR_SECONDS:
                await self._write_down()
            return
        if self._paused:
            return  # somebody has said so while the log was read; what was read waits
        matches, cursor = self._pending
        if matches:
            await self._deliver(matches, cursor)
        self._pending = None
        self._cursor = cursor
        self._attempts = 0
        self._error = self._next_attempt_ms = None
        if matches:
            await self._write_down()
            reached("output.moved")

    async def _next(self) -> tuple[Sequence[Match], int] | None:
        self._woken.clear()  # before the look: what comes after it wakes
        target = self._target
        try:
            scan = await asyncio.to_thread(
                self._reader.scan, self._cursor, target.batch_rows, self._wanted, max_bytes=target.batch_bytes
            )
        except MatchesGoneError as gone:
            missed = gone.first_seq - 1 - self._cursor
            self._lost += missed
            _log.error("output %s has lost %d matches: %s", self.name, missed, gone)
            return (), gone.first_seq - 1
        except MatchLogError as error:
            raise RetryError(str(error)) from error
        self._last_seq = max(self._last_seq, scan.behind)
        return (scan.matches, scan.behind) if scan.behind > self._cursor else None

    async def _deliver(self, matches: Sequence[Match], cursor: int) -> None:
        try:
            await self._target.deliver(matches, cursor)
        except RefusedError as error:
            await self._refused(matches, cursor, error)
            return
        except RetryError as error:
            most = self.settings.max_attempts if isinstance(self.settings, WebhookOutput) else None
            if most is None or self._attempts + 1 < most:
                raise
            await self._bury(matches, f"{error}, {most} times")
            return
        reached("output.sent")
        self._delivered += len(matches)
        self._last_delivery_ms = time.time_ns() // 1_000_000

    async def _refused(self, matches: Sequence[Match], cursor: int, error: RefusedError) -> None:
        if self._target.has_own_cursor:
            # after an error it has to be begun again, and its cursor tells what of this came to be
            await self._close_target()
            await self._open()
            matches = [match for match in matches if match.seq > self._cursor]
        if len(matches) > 1 and error.is_one:
            for match in matches:
                await self._deliver([match], match.seq)
                self._cursor = match.seq
                self._pending = [each for each in matches if each.seq > match.seq], cursor
            return
        if isinstance(self.settings, FileOutput) or self.settings.on_refused == "stop":
            raise error
        await self._bury(matches, str(error))

    async def _bury(self, matches: Sequence[Match], reason: str) -> None:
        _log.error("output %s: matches %d to %d: %s: to %s", self.name, matches[0].seq, matches[-1].seq, reason,
                   self._dead_letters.path)  # fmt: skip
        try:
            await asyncio.to_thread(self._dead_letters.add, matches, reason)
        except OSError as error:
            raise RetryError(f"{self._dead_letters.path}: {error.strerror}; {reason}") from error
        self._dead += len(matches)

    async def _retry(self, error: str, after_seconds: float | None) -> None:
        self._attempts += 1
        self._retries += 1
        pause = max(self._backoff.pause(self._attempts), after_seconds or 0)
        if error != self._error:
            _log.warning("output %s: %s; again in %.1f s", self.name, error, pause)
        self._error = error
        self._state = "retrying"
        self._next_attempt_ms = time.time_ns() // 1_000_000 + int(pause * 1000)
        await self._close_target()
        until = time.monotonic() + pause
        while not self._stopping and not self._paused and (left := until - time.monotonic()) > 0:
            await self._wait(left)

    async def _fail(self, error: str) -> None:
        """Wait for somebody to resume it."""
        _log.error("output %s has stopped: %s", self.name, error)
        self._state, self._error = "failed", error
        await self._close_target()
        self._woken.clear()
        if not self._stopping:
            await self._wait(None)

    async def _close_target(self) -> None:
        self._is_open = False
        await self._target.close()

    async def _write_down(self) -> None:
        if self._written_down != self._cursor:
            cursor = self._cursor
            await asyncio.to_thread(self._cursors.put, {self.name: cursor})
            self._written_down = cursor
        self._written_at = time.monotonic()

    async def _wait(self, seconds: float | None) -> None:
        """Until something has changed, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        if self._paused or self._state != "running":
            self._woken.clear()


def target_of(name: str, settings: OutputSettings, context: OutputContext) -> Target:
    """What the settings name. Raises OutputError."""
    match settings:
        case WebhookOutput():
            from ostinato.server.delivery.webhook import Webhook

            return Webhook(name, settings, context)
        case KafkaOutput():
            from ostinato.server.delivery.kafka import KafkaTopic

            return KafkaTopic(name, settings, context)
        case FileOutput():
            from ostinato.server.delivery.files import LinesFile

            return LinesFile(name, settings, context)
