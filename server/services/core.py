"""What the server is made of besides HTTP: each part opened when what it needs is there, closed before that is.

The journal; the live worker; changes; the match log with those who follow it, and outputs; feeders last, for what they
bring in needs all the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ostinato.cep.connectors.kafka.options import Connection
from ostinato.server.administration import Progress
from ostinato.server.backtest.service import Backtests
from ostinato.server.catalog.definitions import Body
from ostinato.server.changes.service import Changes
from ostinato.server.config import ServerConfig
from ostinato.server.delivery.deliveries import Deliveries
from ostinato.server.delivery.hub import Hub
from ostinato.server.delivery.settings import OutputContext
from ostinato.server.failures import ServiceError
from ostinato.server.ingest.dead_letters import DeadLetters
from ostinato.server.journal import Journal, JournalError, JournalOptions
from ostinato.server.live.messages import Snapshot
from ostinato.server.live.process import Live
from ostinato.server.live.spec import WorkerSpec
from ostinato.server.matches import MatchLogReader
from ostinato.server.services.checkpoints import Checkpoints
from ostinato.server.services.events import Events
from ostinato.server.services.feeding import Feeding
from ostinato.server.services.matches import Matches
from ostinato.server.services.outputs import Outputs
from ostinato.server.services.params import Params
from ostinato.server.services.patterns import Patterns
from ostinato.server.services.streams import Streams
from ostinato.server.services.ticks import Ticks
from ostinato.server.submitted.service import Jobs

if TYPE_CHECKING:
    from ostinato.server.application import Application

_FIRST_TIDY_SECONDS: Final = 2.0
_TIDY_SECONDS: Final = 60.0
_BEHIND_SECONDS: Final = 30.0
"""A worker that has not moved for so long, though there is something to do, is not well."""

log = logging.getLogger("ostinato.server")


class Core:
    """The parts of a running server."""

    def __init__(self, application: Application) -> None:
        self.config: ServerConfig = application.config
        self.catalog = application.catalog
        self.folder: Path = application.directory.path
        self.journal: Journal
        self.live: Live
        self.changes: Changes
        self.hub: Hub
        self.deliveries: Deliveries
        self.feeding: Feeding
        self.dead_letters: DeadLetters
        self.jobs: Jobs
        self.backtests: Backtests
        self._moved = time.monotonic()
        self._oldest: int | None = None

    async def open(self, application: Application, stack: AsyncExitStack) -> None:
        """Open all of it, and put the services where the routes find them."""
        config, services = self.config, application.services
        self.journal = await asyncio.to_thread(Journal, self.folder / "journal", _journal_options(config))
        stack.push_async_callback(asyncio.to_thread, self.journal.close)
        self.dead_letters = DeadLetters(self.journal)
        checkpoints = config.checkpoints.dir or str(self.folder / "checkpoints")
        server = self.catalog.facts.server_id
        spec = WorkerSpec(str(self.folder), checkpoints, config.checkpoints.interval, _log_options(config), server)
        self.live = Live(spec)
        self.live.on_progress = self._progress
        self.live.on_snapshot = self._snapshot
        self.feeding = Feeding(self.journal, self.dead_letters.add_records, config.files.read)
        self.changes = await asyncio.to_thread(
            lambda: Changes(
                self.catalog.definitions,
                self.journal,
                self.live,
                max_patterns=config.limits.patterns,
                max_states=config.limits.pattern_states,
                allows=self.feeding.check,
            )
        )
        self.journal.on_durable.append(self.live.journal_grew)
        self.live.journal_grew(self.journal.durable)
        await self.live.start()
        stack.push_async_callback(self.live.stop)
        await self._open_outputs(application, stack)
        events = Events(self.journal, self.dead_letters, max_bytes=config.limits.decompressed_bytes)
        events.use(self.changes.body)
        self.changes.on_change.append(events.use)
        services.events = events
        services.patterns = Patterns(self.changes, self.catalog.definitions, self.live)
        services.params = Params(self.changes)
        services.streams = Streams(self.changes, self.live, self.feeding.lanes)
        services.checkpoints = Checkpoints(self.live, checkpoints)
        self._feeding_thread = ThreadPoolExecutor(1, "feeding")
        stack.push_async_callback(self._end_feeding)
        self._feed(self.changes.body)
        self.changes.on_change.append(self._feed)
        watching = application.metering.watch_loop()
        ticks = Ticks(self.journal)
        ticks.use(self.changes.body)
        self.changes.on_change.append(ticks.use)
        for work, name in ((ticks.run(), "ticks"), (self._tidy(), "tidying"), (watching, "loop lag")):
            task = asyncio.create_task(work, name=name)
            stack.push_async_callback(_end, task)
        await self._open_jobs(application, stack)
        self._stand(application)

    async def _open_jobs(self, application: Application, stack: AsyncExitStack) -> None:
        catalog, config = self.catalog, self.config
        self.jobs = Jobs(self.folder, catalog.jobs, catalog.database, config)
        await self.jobs.open()
        stack.push_async_callback(self.jobs.close)
        self.backtests = Backtests(
            self.folder,
            catalog.backtests,
            catalog.database,
            config,
            body=lambda: self.changes.body,
            durable=lambda: self.journal.durable,
        )
        await self.backtests.open()
        stack.push_async_callback(self.backtests.close)
        application.services.jobs = self.jobs
        application.services.backtests = self.backtests

    async def _open_outputs(self, application: Application, stack: AsyncExitStack) -> None:
        config, matches = self.config, self.folder / "matches"
        server = self.catalog.facts.server_id
        self.hub = Hub(matches, server)
        await self.hub.start()
        stack.push_async_callback(self.hub.close)
        secrets = config.webhooks.secrets
        context = OutputContext(
            server=server,
            matches=matches,
            folder=self.folder / "outputs",
            secret=lambda name: secrets[name].reveal() if name in secrets else None,
            allow_private=config.webhooks.allow_private,
            timeout_ms=config.webhooks.timeout,
            write_folders=_folders(config.files.write),
            kafka=_kafka(config),
        )
        self.deliveries = Deliveries(context, self.catalog.cursors)
        stack.push_async_callback(self.deliveries.close)
        self.live.on_rows = self._rows
        outputs = Outputs(self.catalog, self.deliveries)
        for said in await outputs.begin():
            log.error("an output cannot begin: %s", said)
        self._log = MatchLogReader(matches)
        stack.callback(self._log.close)
        reading = Matches(matches, server, self.hub, most_followers=config.limits.sse_clients)
        stack.callback(reading.close)
        application.services.outputs = outputs
        application.services.matches = reading

    def _stand(self, application: Application) -> None:
        standing = application.standing
        standing.checks["live worker"] = self._check_live
        standing.checks["checkpoints"] = lambda: self.live.snapshot_error
        standing.checks["journal"] = lambda: self.journal.status().failure
        standing.metrics = lambda: application.metering.render(self, self.jobs.numbers())
        standing.progress = lambda: Progress(self.live.generation, self.live.position, self.live.last_seq)

    def _check_live(self) -> str | None:
        if self.live.state != "running":
            return f"it is {self.live.state}" + (f": {self.live.error}" if self.live.error else "")
        behind = self.journal.durable - self.live.position
        if behind and time.monotonic() - self._moved > _BEHIND_SECONDS:
            return f"it has not moved for {_BEHIND_SECONDS:.0f} s, and is {behind} bytes behind"
        return None

    # What happens

    def _rows(self, last_seq: int) -> None:
        self.hub.grown(last_seq)
        self.deliveries.grown(last_seq)

    def _progress(self, _: int) -> None:
        self._moved = time.monotonic()

    def _snapshot(self, made: Snapshot) -> None:
        self._oldest = made.oldest

    def _feed(self, body: Body) -> None:
        # a feeder that ends may take a while, and whoever made the change need not wait for that; one after the other
        self._feeding_thread.submit(self._use, body)

    def _use(self, body: Body) -> None:
        try:
            self.feeding.use(body)
        except Exception:
            log.exception("the sources of streams could not be changed")

    async def _end_feeding(self) -> None:
        await asyncio.to_thread(self._feeding_thread.submit(self.feeding.close).result)
        self._feeding_thread.shutdown()

    async def _tidy(self) -> None:
        """What nobody needs any more goes: events behind all snapshots, versions that have drained."""
        pause = _FIRST_TIDY_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = _TIDY_SECONDS
            try:
                await self.changes.take_out_failed()
                if self._oldest is not None:
                    await asyncio.to_thread(self.journal.retain, self._oldest)
                    await asyncio.to_thread(self.catalog.definitions.forget_before, self._oldest)
                await self.changes.forget_drained()
            except (ServiceError, JournalError) as error:
                log.info("tidying waits: %s", error)
            except Exception:
                log.exception("tidying failed; it is tried again")

    async def match_range(self) -> tuple[int, int]:
        """The numbers of the first and the last row that the match log has."""
        return await asyncio.to_thread(lambda: (self._log.first_seq, self._log.last_seq))


def _journal_options(config: ServerConfig) -> JournalOptions:
    section = config.journal
    return JournalOptions(
        segment_bytes=section.segment_bytes,
        key_window_ms=section.idempotency_window,
        max_keys=max(1, section.idempotency_keys),
        retain_bytes=section.retention_bytes,
        retain_ms=section.retention,
    )


def _log_options(config: ServerConfig) -> dict[str, Any]:
    section = config.matches
    return {
        "segment_bytes": section.segment_bytes,
        "retain_bytes": section.retention_bytes,
        "retain_ms": section.retention,
    }


def _folders(named: Sequence[str]) -> tuple[Path, ...]:
    return tuple(Path(folder).expanduser() for folder in named)


def _kafka(config: ServerConfig) -> Connection | None:
    section = config.kafka
    if section.bootstrap_servers is None:
        return None
    return Connection(
        servers=section.bootstrap_servers,
        protocol=section.security_protocol,
        mechanism=section.sasl_mechanism or "PLAIN",
        username=section.sasl_username,
        password=None if section.sasl_password is None else section.sasl_password.reveal(),
        cafile=section.ssl_cafile,
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
