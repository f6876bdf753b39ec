"""Patterns over stored events, beside the live ones: `BacktestService` of the API.

Each runs in a process of its own that only reads, with a lower priority. It ends with the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ostinato.server.backtest.inputs import inputs_of, journal_range
from ostinato.server.backtest.planning import plan_sides
from ostinato.server.backtest.spec import BacktestSpec, Failure, Progress, Result, Said
from ostinato.server.catalog.backtests import Backtests as Table
from ostinato.server.catalog.backtests import StoredBacktest
from ostinato.server.catalog.database import Database
from ostinato.server.catalog.definitions import Body
from ostinato.server.config import ServerConfig
from ostinato.server.failures import ConflictError, NotReadyError, NotThereError, RefusedError, TooLargeError
from ostinato.server.http.caller import Caller
from ostinato.server.http.pages import cursor, number_of
from ostinato.server.http.schemas.jobs import BacktestInfo, BacktestPage, BacktestRequest
from ostinato.server.submitted.folders import Folders
from ostinato.server.submitted.verdict import obituary
from ostinato.state.typed import decode_json

log = logging.getLogger("ostinato.backtests")

KEPT: Final = 100
"""So many that have ended are remembered."""
WAITING: Final = 50
_TOGETHER: Final = 2
"""More of them at a time would only be slower, each."""
_LINE_BYTES: Final = 64 << 20
"""The result is one line."""
_ENDED: Final = ("FINISHED", "CANCELED", "FAILED")


class Backtests:
    """See `ostinato.server.http.services.BacktestService`. Its coroutines are for one event loop."""

    def __init__(
        self,
        data: Path,
        table: Table,
        database: Database,
        config: ServerConfig,
        *,
        body: Callable[[], Body],
        durable: Callable[[], int],
    ) -> None:
        """
        Args:
            data: the server's folder.
            table, database: where results are kept.
            config: of the server.
            body: what is declared and runs now.
            durable: how far the journal is durable now.
        """
        self._journal = data / "journal"
        self._table = table
        self._database = database
        self._config = config
        self._body = body
        self._durable = durable
        self._read = Folders.of(config.files.read, "files.read")
        self._slots = asyncio.Semaphore(min(_TOGETHER, config.server.workers))
        self._infos: dict[str, BacktestInfo] = {}
        """Of those that have not ended."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_open = False

    # The server's side

    async def open(self) -> None:
        """Say of those that the last server did not finish that they have not come to an end. Raises CatalogError."""
        for stored in await self._database.run(self._table.unfinished):
            info = decode_json(stored.info, BacktestInfo)
            why = "the server ended before it did; start it again"
            await self._keep(replace(info, state="CANCELED", ended_ms=_now_ms(), error=why))
        self._is_open = True

    async def close(self) -> None:
        """End those that run."""
        self._is_open = False
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def counts(self) -> dict[str, int]:
        """How many are in each state that has not ended."""
        found: dict[str, int] = {}
        for info in self._infos.values():
            found[info.state] = found.get(info.state, 0) + 1
        return found

    # The API's side

    async def list(self, limit: int, after: str | None) -> BacktestPage:
        rows = await self._database.run(self._table.page, limit + 1, number_of(after))
        items = [self._shown(stored) for _, stored in rows[:limit]]
        return BacktestPage(items, cursor(str(rows[limit - 1][0])) if len(rows) > limit else None)

    async def get(self, backtest: str) -> BacktestInfo:
        stored = await self._database.run(self._table.get, backtest)
        if stored is None:
            raise NotThereError(f"there is no backtest `{backtest}`")
        return self._shown(stored)

    async def create(self, request: BacktestRequest, caller: Caller) -> BacktestInfo:
        """Check it, and let it begin as soon as there is a place for it.

        Raises:
            PatternError, RefusedError, NotAllowedError, TooLargeError: it cannot be run.
            ConflictError: too many wait.
        """
        if not self._is_open:
            raise NotReadyError("the server is starting, or ending")
        if len(self._infos) >= WAITING:
            raise ConflictError(f"{len(self._infos)} backtests run or wait already; delete some first")
        spec, notes = await asyncio.to_thread(self._plan, request, self._body(), self._durable())
        info = BacktestInfo(
            id=secrets.token_hex(6),
            state="QUEUED",
            created_ms=_now_ms(),
            created_by=caller.name,
            request=request,
            progress=0.0,
            events=0,
            events_per_second=0,
            notes=[*notes],
        )
        self._infos[info.id] = info
        try:
            await self._database.run(self._table.add, _stored(info))
        except BaseException:
            del self._infos[info.id]
            raise
        await self._database.run(self._table.forget_ended, KEPT)
        self._tasks[info.id] = asyncio.create_task(self._run_safely(info.id, spec), name=f"backtest {info.id}")
        return info

    async def delete(self, backtest: str, caller: Caller) -> None:  # noqa: ARG002 - the contract's
        """End it if it runs, and forget it."""
        task = self._tasks.get(backtest)
        there = await self._database.run(self._table.delete, backtest)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not there:
            raise NotThereError(f"there is no backtest `{backtest}`")

    # What is checked

    def _plan(self, request: BacktestRequest, body: Body, durable: int) -> tuple[BacktestSpec, Sequence[str]]:
        """Blocks. See `create`."""
        limit = self._config.limits.pattern_bytes
        if len(request.text.encode()) > limit:
            raise TooLargeError(f"the text is larger than {limit} bytes (limits.pattern_bytes)")
        if request.from_ms is not None and request.to_ms is not None and request.from_ms >= request.to_ms:
            raise RefusedError("`from` must lie before `to`")
        sides = plan_sides(request.text, request.params, body, compare=request.compare)
        notes = []
        if request.compare:
            missing = [
                name for name in sides.patterns if sides.live is None or sides.live.member(name) is None
            ]  # fmt: skip
            if missing:
                notes.append(f"nothing to compare with: {', '.join(missing)} does not run here")
        spec = BacktestSpec(
            sides.here,
            sides.live,
            sides.patterns,
            from_ms=request.from_ms,
            to_ms=request.to_ms,
            bucket_ms=request.bucket_ms,
        )
        if request.source.kind == "journal":
            found = journal_range(self._journal, request.from_ms, durable)
            if found.note is not None:
                notes.append(found.note)
            strange = [name for name in sides.sources if name not in body.definitions.streams]
            if strange:
                notes.append(f"the journal has no events of {', '.join(strange)}, which the server does not know")
            journal = str(self._journal.absolute())
            return msgspec.structs.replace(spec, journal=journal, start=found.start, until=found.until), notes
        inputs = inputs_of(
            request.source,
            sides.sources,
            self._read,
            self._config.kafka,
            is_timed=request.from_ms is not None or request.to_ms is not None,
        )
        return msgspec.structs.replace(spec, inputs=inputs), notes

    # What is run

    async def _run_safely(self, backtest: str, spec: BacktestSpec) -> None:
        try:
            async with self._slots:
                await self._run(backtest, spec)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):
                await self._keep(replace(self._infos[backtest], state="CANCELED", ended_ms=_now_ms()))
            raise
        except Exception as error:
            log.exception("a backtest has failed", extra={"backtest": backtest})
            with contextlib.suppress(Exception):
                await self._end(backtest, error=f"{type(error).__name__}: {error}")
        finally:
            self._infos.pop(backtest, None)
            self._tasks.pop(backtest, None)

    async def _run(self, backtest: str, spec: BacktestSpec) -> None:
        await self._keep(replace(self._infos[backtest], state="RUNNING", started_ms=_now_ms()))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OSTINATO__")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ostinato.server.backtest.worker_main", str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        hearing = asyncio.create_task(_last_line(process.stderr))
        said: Said | None = None
        try:
            process.stdin.write(msgspec.json.encode(spec))
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()
            process.stdin.close()
            while line := await process.stdout.readline():
                said = decode_json(line, Said)
                if isinstance(said, Progress):
                    self._infos[backtest] = replace(
                        self._infos[backtest],
                        progress=said.part,
                        events=said.events,
                        events_per_second=_rate(said.events, said.seconds),
                    )
            code = await process.wait()
            written = await hearing
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
        if isinstance(said, Result):
            await self._end(
                backtest,
                state="FINISHED",
                progress=1.0,
                events=said.events,
                events_per_second=_rate(said.events, said.seconds),
                patterns=said.patterns,
                bucket_ms=said.bucket_ms,
                late=said.late,
                bad=said.bad,
                notes=[*self._infos[backtest].notes, *said.notes],
            )
        else:
            await self._end(backtest, error=said.error if isinstance(said, Failure) else obituary(code, written))

    async def _end(self, backtest: str, **changes: Any) -> None:
        info = replace(self._infos[backtest], **{"state": "FAILED", "ended_ms": _now_ms(), **changes})
        await self._keep(info)

    async def _keep(self, info: BacktestInfo) -> None:
        if info.id in self._infos:
            self._infos[info.id] = info
        await self._database.run(self._table.put, _stored(info))

    def _shown(self, stored: StoredBacktest) -> BacktestInfo:
        return self._infos.get(stored.id) or decode_json(stored.info, BacktestInfo)


async def _last_line(stream: asyncio.StreamReader) -> str:
    last = b""
    while line := await stream.readline():
        last = line.strip() or last
    return last.decode("utf-8", "replace")[:2000]


def _stored(info: BacktestInfo) -> StoredBacktest:
    return StoredBacktest(info.id, info.state, msgspec.json.encode(info))


def _rate(events: int, seconds: float) -> int:
    return round(events / seconds) if seconds > 0 else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
