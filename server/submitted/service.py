"""The jobs that the server runs for people: `JobService` of the API."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import click
from msgspec.structs import replace

from ostinato.server.catalog.database import Database
from ostinato.server.catalog.submitted import ENDED, StoredJob, SubmittedJobs
from ostinato.server.config import ServerConfig
from ostinato.server.failures import ConflictError, NotReadyError, NotThereError, RefusedError, TooLargeError
from ostinato.server.http.caller import Caller
from ostinato.server.http.pages import cursor, number_of
from ostinato.server.http.schemas.jobs import (
    JobInfo,
    JobPage,
    JobRequest,
    JobsQuery,
    SavepointInfo,
    SavepointRequest,
    StopRequest,
)
from ostinato.server.lasting_options import DEFAULT_RESTART
from ostinato.server.measuring import job_numbers
from ostinato.server.metrics import JobNumbers
from ostinato.server.options import DURATION
from ostinato.server.restart_option import restart_strategy
from ostinato.server.submitted.folders import Folders
from ostinato.server.submitted.home import Home, make_private
from ostinato.server.submitted.programs import check_program, find_module, with_brokers
from ostinato.server.submitted.running import Running, last_checkpoint
from ostinato.state.errors import StateError
from ostinato.state.savepoints import read, resolve

KEPT: Final = 500
"""So many jobs that have ended are remembered."""
WAITING: Final = 200
"""So many may be there that have not ended; more of them would wait for days."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_PARAM: Final = re.compile(r"[A-Za-z_]\w*")
_OWN_SAVEPOINT: Final = re.compile(r"([A-Za-z0-9_-]{1,64})/([A-Za-z_][A-Za-z0-9_.-]{0,127})")
_FOLDER: Final = "jobs"
_PASSWORD: Final = "OSTINATO_BROKER_PASSWORD"  # noqa: S105 - a name
"""The variable of a job's environment that has the password for the server's brokers."""
_RUNTIME: Final = "run"


class Jobs:
    """See `ostinato.server.http.services.JobService`. Its coroutines are for one event loop."""

    def __init__(self, data: Path, tables: SubmittedJobs, database: Database, config: ServerConfig) -> None:
        """`data`: the server's folder."""
        self._folder = data / _FOLDER
        self._runtime = self._folder / _RUNTIME
        self._tables = tables
        self._database = database
        self._config = config
        self._read = Folders.of(config.files.read, "files.read")
        self._write = Folders.of(config.files.write, "files.write")
        self._modules = Folders.of(config.modules.paths, "modules.paths")
        self._running: dict[str, Running] = {}
        self._slots = asyncio.Semaphore(config.server.workers)
        self._executor = ThreadPoolExecutor(64, "job")
        self._creating = asyncio.Lock()
        self._is_open = False

    # The server's side

    async def open(self) -> None:
        """Bring back what is to run. Raises CatalogError, OSError."""
        await asyncio.to_thread(make_private, self._folder)
        await asyncio.to_thread(make_private, self._runtime)
        self._is_open = True
        for job in await self._database.run(self._tables.active):
            home = Home(self._folder, job.id)
            if job.stopping is not None:
                if await asyncio.to_thread(home.has_savepoint, job.stopping, job.name):
                    # it had stopped, and the server was killed before it could say so
                    job = replace(job, state="STOPPED", ended_ms=job.ended_ms or _now_ms())
                    await self._database.run(self._tables.put, job)
                    await asyncio.to_thread(home.drop_checkpoints)
                    continue
                job = replace(job, stopping=None)
            self._begin(job)

    async def close(self) -> None:
        """End all processes in good order; what is to run comes back with the next `open`."""
        self._is_open = False
        seconds = self._config.server.shutdown_timeout / 1000
        await asyncio.gather(*(running.suspend(seconds) for running in list(self._running.values())))
        self._running.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def counts(self) -> dict[str, int]:
        """How many are in each state that has not ended."""
        found: dict[str, int] = {}
        for running in self._running.values():
            found[running.job.state] = found.get(running.job.state, 0) + 1
        return found

    def numbers(self) -> tuple[JobNumbers, ...]:
        """What each that has not ended has counted."""
        now_ms = _now_ms()
        found = []
        for running in self._running.values():
            job = running.job
            uptime = None if job.started_ms is None else max(0, now_ms - job.started_ms) / 1000
            found.append(job_numbers(job.name, running.status, job.restarts, uptime, now_ms))
        return tuple(found)

    # The API's side

    async def list(self, query: JobsQuery) -> JobPage:
        before = number_of(query.after)
        rows = await self._database.run(self._tables.page, query.limit + 1, before, query.state)
        items = [self._info(self._held(job)) for _, job in rows[: query.limit]]
        following = cursor(str(rows[query.limit - 1][0])) if len(rows) > query.limit else None
        return JobPage(items, following)

    async def get(self, job: str) -> JobInfo:
        stored = self._held(await self._find(job))
        tail = await asyncio.to_thread(Home(self._folder, job).log.tail)
        return replace(self._info(stored), log=tail)

    async def create(self, request: JobRequest, caller: Caller) -> JobInfo:
        """Check it, and let it begin as soon as there is a place for it.

        Raises:
            PatternError, RefusedError, NotAllowedError, NotThereError, TooLargeError: it must not run as it is.
            ConflictError: one of its name runs; or there are too many.
        """
        if not self._is_open:
            raise NotReadyError("the server is starting, or ending")
        job = StoredJob(
            secrets.token_hex(6),
            request.name,
            "CREATED",
            request.parallelism,
            _now_ms(),
            caller.name,
            request.text,
            request.module,
            dict(request.params),
            request.restart,
            request.checkpoint_interval,
            request.savepoint,
        )
        await asyncio.to_thread(self._check, job)
        async with self._creating:
            self._refuse_second(job.name)
            home = Home(self._folder, job.id)
            await asyncio.to_thread(home.make, job.text)
            await self._database.run(self._tables.add, job)
            running = self._begin(job)
            for gone in await self._database.run(self._tables.forget_ended, KEPT):
                await asyncio.to_thread(Home(self._folder, gone.id).remove)
        return self._info(running.job)

    async def cancel(self, job: str, caller: Caller) -> JobInfo:  # noqa: ARG002 - the contract's
        running = await self._find_running(job)
        await running.cancel()
        return self._info(running.job)

    async def savepoint(self, job: str, request: SavepointRequest, caller: Caller) -> SavepointInfo:  # noqa: ARG002
        running = await self._find_running(job)
        name, target = self._target(running.home, request.name)
        return _savepoint(name, await running.savepoint(target))

    async def stop(self, job: str, request: StopRequest, caller: Caller) -> SavepointInfo:  # noqa: ARG002
        running = await self._find_running(job)
        name, target = self._target(running.home, request.savepoint)
        return _savepoint(name, await running.stop(target, drain=request.drain))

    # What is checked

    def _check(self, job: StoredJob) -> None:
        """Blocks. See `create`."""
        if (job.text is None) == (job.module is None):
            raise RefusedError("a job is either the `text` of a program or a `module`: give one of them")
        if not _NAME.fullmatch(job.name):
            raise RefusedError(f"name {job.name!r}: letters, digits, _ . and -, 100 at most")
        for name, value in job.params.items():
            if not _PARAM.fullmatch(name) or "\0" in value:
                raise RefusedError(f"there is no parameter {name!r}: a name has letters, digits and _")
        try:
            if job.restart is not None:
                restart_strategy(job.restart)
            if job.checkpoint_interval is not None and DURATION.convert(job.checkpoint_interval, None, None) <= 0:
                raise RefusedError("checkpoint_interval: it must take some time")
        except click.UsageError as error:
            raise RefusedError(error.message.replace("--restart", "restart")) from error
        if job.text is not None:
            limit = self._config.limits.pattern_bytes
            if len(job.text.encode()) > limit:
                raise TooLargeError(f"the text is larger than {limit} bytes (limits.pattern_bytes)")
            self._check_text(job)
        else:
            assert job.module is not None
            find_module(job.module, self._modules)
        if job.savepoint is not None:
            self._savepoint_address(job.savepoint, job.name)

    def _check_text(self, job: StoredJob) -> tuple[str, ...]:
        assert job.text is not None
        output = Home(self._folder, job.id).output
        checked = check_program(
            job.text, job.name, job.params, read=self._read, write=self._write, output=output.absolute()
        )
        return checked.unclaimed

    def _savepoint_address(self, given: str, name: str) -> str:
        """The address of a savepoint that a job may begin from: ``JOB/NAME``, or a path of the server or of files.read.

        Raises:
            NotAllowedError: it lies elsewhere.
            RefusedError: it is none.
        """
        own = _OWN_SAVEPOINT.fullmatch(given)
        path = str((self._folder / own[1] / "savepoints" / own[2]).absolute()) if own else given
        folders = Folders((self._folder.absolute(), *self._read.paths), "files.read")
        real = str(folders.check(path, "savepoint"))
        try:
            place = resolve(real, job=name)
            try:
                read(place)
            finally:
                place.store.close()
        except (StateError, ValueError) as error:
            raise RefusedError(f"savepoint {given}: {error}") from error
        return real

    def _refuse_second(self, name: str) -> None:
        same = next((running.job for running in self._running.values() if running.job.name == name), None)
        if same is not None:
            raise ConflictError(
                f"job {same.id} is called `{name}` and is {same.state}: two of one name would share what they have "
                "committed; end it first, or take another name"
            )
        if len(self._running) >= WAITING:
            raise ConflictError(f"{len(self._running)} jobs run or wait already; end some first")

    def _target(self, home: Home, name: str | None) -> tuple[str, str]:
        """The name of a savepoint to be, and where it goes. Raises ConflictError."""
        chosen = name or time.strftime("sp_%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
        target = home.savepoints / chosen
        if target.exists():
            raise ConflictError(f"there is a savepoint `{chosen}` already: {target}; take another name")
        return chosen, str(target.absolute())

    # What is run

    def _begin(self, job: StoredJob) -> Running:
        home = Home(self._folder.absolute(), job.id)

        async def save(changed: StoredJob) -> None:
            await self._database.run(self._tables.put, changed)
            if changed.state in ENDED:
                running = self._running.get(changed.id)
                # it stays until its process is gone, which `cancel` waits for
                if running is not None and running.pid is None:
                    del self._running[changed.id]

        running = self._running[job.id] = Running(
            job,
            home,
            self._runtime.absolute(),
            launch=lambda job: asyncio.to_thread(self._arguments, job, home),
            save=save,
            slots=self._slots,
            executor=self._executor,
            environment=self._environment(),
        )
        running.begin()
        return running

    def _arguments(self, job: StoredJob, home: Home) -> Sequence[str]:
        """The command. What is allowed may have changed since the job was made, so it is checked again."""
        home.make(None if job.text is None else with_brokers(job.text, self._brokers()))
        if job.text is not None:
            program = str(home.program)
            more = [f"--output={stream}={stream}.jsonl" for stream in self._check_text(job)]
        else:
            assert job.module is not None
            program, more = str(find_module(job.module, self._modules)), []
        if home.has_checkpoints(job.name) or job.savepoint is None:
            more.append("--resume-if-any")
        else:
            more.append(f"--savepoint={self._savepoint_address(job.savepoint, job.name)}")
        if job.restart is not None:
            more.append(f"--restart={job.restart}")
        if job.checkpoint_interval is not None:
            more.append(f"--interval={job.checkpoint_interval}")
        more += [f"--param={name}={value}" for name, value in job.params.items()]
        return [
            "run",
            program,
            f"--name={job.name}",
            f"--workers={job.parallelism}",
            f"--checkpoint-dir={home.checkpoints}",
            # The server deletes them when it has written down that the job is over.
            "--keep-checkpoints=always",
            "--json",
            "--no-progress",
            *more,
        ]

    def _brokers(self) -> dict[str, str]:
        """Options of topics that name no brokers; the password is only in the process's environment."""
        section = self._config.kafka
        if section.bootstrap_servers is None or section.security_protocol == "PLAINTEXT":
            return {}  # the environment says enough
        known = {
            "bootstrap_servers": section.bootstrap_servers,
            "security_protocol": section.security_protocol,
            "sasl_mechanism": section.sasl_mechanism,
            "sasl_plain_username": section.sasl_username,
            "sasl_plain_password": None if section.sasl_password is None else f"env:{_PASSWORD}",
            "ssl_cafile": section.ssl_cafile,
        }
        return {name: value for name, value in known.items() if value is not None}

    def _environment(self) -> Mapping[str, str]:
        # the server's settings are not the program's business, nor are its secrets
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OSTINATO__", "OSTINATO_TO"))}
        kept["OSTINATO_RUNTIME_DIR"] = str(self._runtime.absolute())
        if self._config.kafka.bootstrap_servers is not None:
            from ostinato.cep.connectors.kafka.options import BOOTSTRAP_VARIABLE

            kept[BOOTSTRAP_VARIABLE] = self._config.kafka.bootstrap_servers
        if self._config.kafka.sasl_password is not None:
            kept[_PASSWORD] = self._config.kafka.sasl_password.reveal()
        return kept

    # What is said

    async def _find(self, job: str) -> StoredJob:
        stored = await self._database.run(self._tables.get, job)
        if stored is None:
            raise NotThereError(f"there is no job `{job}`")
        return stored

    async def _find_running(self, job: str) -> Running:
        stored = self._held(await self._find(job))
        running = self._running.get(job)
        if stored.state in ENDED or running is None:
            raise ConflictError(f"job `{job}` is {stored.state}")
        return running

    def _held(self, job: StoredJob) -> StoredJob:
        running = self._running.get(job.id)
        return job if running is None else running.job

    def _info(self, job: StoredJob) -> JobInfo:
        running = self._running.get(job.id)
        status: Mapping[str, Any] = {} if running is None or job.state in ENDED else running.status
        return JobInfo(
            id=job.id,
            name=job.name,
            state=job.state,
            parallelism=job.parallelism,
            created_ms=job.created_ms,
            created_by=job.created_by,
            started_ms=job.started_ms,
            ended_ms=job.ended_ms,
            text=job.text,
            module=job.module,
            params=job.params,
            restart=job.restart or DEFAULT_RESTART,
            restarts=job.restarts + int(status.get("restarts", 0)),
            events=int(status.get("events", job.events)),
            matches=int(status.get("matches", job.matches)),
            events_per_second=int(status.get("events_per_second", 0)),
            last_checkpoint_ms=last_checkpoint(status) or job.last_checkpoint_ms,
            error=job.error or status.get("failure"),
            exit_code=job.exit_code,
            operators=status.get("operators") or {},
            folder=str((self._folder / job.id).absolute()),
        )


def _savepoint(name: str, taken: Mapping[str, Any]) -> SavepointInfo:
    return SavepointInfo(
        name=name,
        path=taken["savepoint_address"],
        bytes=taken["bytes_total"],
        duration_ms=round(taken["seconds"] * 1000),
        at_ms=taken["taken_at"],
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
