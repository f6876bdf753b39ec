"""One job of the server while it is to run: a process that is begun again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from ostinato.patterns.errors import PatternError
from ostinato.server import exits
from ostinato.server.catalog.submitted import ENDED, JobState, StoredJob
from ostinato.server.failures import ConflictError, NotReadyError, ServiceError
from ostinato.server.jobs import JobError, ask
from ostinato.server.lasting_options import DEFAULT_RESTART
from ostinato.server.protocol import Ask
from ostinato.server.registry import Entry, sweep
from ostinato.server.restart_option import restart_strategy
from ostinato.server.submitted.home import Home
from ostinato.server.submitted.verdict import Summary, judge, obituary, summary_in
from ostinato.state.errors import StateError

log = logging.getLogger("ostinato.jobs")

_FIRST_LOOK_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 1.0
"""How often a job is asked for its numbers."""
_CANCEL_SECONDS: Final = 15.0
"""A job that is cancelled and does not end by then is killed."""
_LINE_BYTES: Final = 1 << 16

Save = Callable[[StoredJob], Awaitable[None]]
Launch = Callable[[StoredJob], Awaitable[Sequence[str]]]
"""The arguments of the command, made anew for each start. Raises ServiceError where it must not start."""


class Running:
    """Keeps a job going, from `begin` until it ends, or the server does. For one event loop."""

    def __init__(
        self,
        job: StoredJob,
        home: Home,
        runtime: Path,
        *,
        launch: Launch,
        save: Save,
        slots: asyncio.Semaphore,
        executor: Executor,
        environment: Mapping[str, str],
    ) -> None:
        self.job = job
        self.home = home
        self.status: dict[str, Any] = {}
        """What the process has last said of itself."""
        self.pid: int | None = None
        self._runtime = runtime
        self._launch = launch
        self._save = save
        self._slots = slots
        self._executor = executor
        self._environment = environment
        self._task: asyncio.Task[None] | None = None
        self._cancelled = asyncio.Event()
        self._server_ends = False
        self._asking = False
        self._entry: Entry | None = None
        self._ran = False
        self._summary: Summary | None = None
        self._said = ""

    # Its life

    def begin(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._keep_safely(), name=f"job {self.job.name}")

    async def wait(self) -> None:
        """Until it has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def suspend(self, seconds: float) -> None:
        """The server ends: have a last checkpoint taken. The job is to go on with the next server."""
        self._server_ends = True
        self._cancelled.set()  # of waits; its state stays
        self._signal(signal.SIGTERM)
        task = self._task
        if task is None:
            return
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            log.warning("a job has not ended in time and is killed", extra={"job": self.job.name})
            self._signal(signal.SIGKILL)
            done, _ = await asyncio.wait({task}, timeout=5.0)
        if not done:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep_safely(self) -> None:
        try:
            await self._keep()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("a job cannot be kept going", extra={"job": self.job.name})
            with contextlib.suppress(Exception):
                await self._end("FAILED", error=f"{type(error).__name__}: {error}")

    async def _keep(self) -> None:
        if not await self._take_slot():
            return
        try:
            await self._run()
        finally:
            self._slots.release()

    async def _take_slot(self) -> bool:
        """Wait for a place among those that run; False where it is not wanted any more."""
        taking = asyncio.create_task(self._slots.acquire())
        giving_up = asyncio.create_task(self._cancelled.wait())
        try:
            await asyncio.wait({taking, giving_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            giving_up.cancel()
            if not taking.done():
                taking.cancel()
            await asyncio.gather(taking, giving_up, return_exceptions=True)
        taken = taking.done() and not taking.cancelled()
        if taken and self._cancelled.is_set():
            self._slots.release()
            return False
        return taken

    async def _run(self) -> None:
        strategy = restart_strategy(self.job.restart or DEFAULT_RESTART)
        while not self._cancelled.is_set():
            began = time.monotonic()
            code: int | None
            try:
                arguments = await self._launch(self.job)
                code = await self._live(arguments)
            except (OSError, ServiceError, PatternError, StateError) as error:
                code, why = None, f"cannot be started: {error}"
                verdict = judge(exits.INPUT, None, ran=False, has_run=self.job.has_run)
            else:
                why = obituary(code, self._said)
                verdict = judge(code, self._summary, ran=self._ran, has_run=self.job.has_run)
            if verdict != "again":
                error_text = why if verdict == "FAILED" else None
                await self._end(verdict, error=error_text, code=code)
                return
            if self._server_ends or self.job.state in ENDED:
                return
            now = time.monotonic()
            delay = strategy.next_delay_ms(round(now * 1000), round((now - began) * 1000))
            if delay is None:
                await self._end("FAILED", error=f"{why} (given up: {strategy})", code=code)
                return
            log.warning("a job is begun again", extra={"job": self.job.name, "reason": why, "in_ms": delay})
            await self._note(state="RESTARTING", error=why, exit_code=code, restarts=self.job.restarts + 1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cancelled.wait(), delay / 1000)

    async def _live(self, arguments: Sequence[str]) -> int:
        """One process, from its beginning to its end; its exit code."""
        self._ran, self._summary, self._said, self._entry = False, None, "", None
        # the process has the end to read from, which ends when ours does: nobody else has that
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ostinato.server.submitted.child_main", str(os.getpid()), str(reading)),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=str(self.home.output),
                env=self._environment,
                pass_fds=[reading],
                start_new_session=True,
            )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        self.pid = process.pid
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if self._cancelled.is_set():
                process.send_signal(signal.SIGKILL if self.job.state in ENDED else signal.SIGTERM)
            if self.job.state not in ENDED:
                await self._note(
                    state="RUNNING", started_ms=self.job.started_ms or _now_ms(), ended_ms=None, exit_code=None
                )
            watching = asyncio.create_task(self._watch(process.pid))
            try:
                await asyncio.gather(self._hear(process.stdout), self._hear(process.stderr, says=True))
                return await process.wait()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        finally:
            self.pid = None
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(writing)

    async def _hear(self, stream: asyncio.StreamReader, *, says: bool = False) -> None:
        """Keep what it writes; `says`: it is what it says of itself."""
        rest = b""
        while data := await stream.read(_LINE_BYTES):
            if says:
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[-_LINE_BYTES:]
                for line in lines:
                    self._take_line(line)
            try:
                await asyncio.to_thread(self.home.log.write, data)
            except OSError as error:
                # a full disk must not hold the job up
                log.warning("the log of a job cannot be written", extra={"job": self.job.name, "reason": str(error)})

    def _take_line(self, line: bytes) -> None:
        found = summary_in(line)
        if found is not None:
            self._summary = found
            self._ran = self._ran or found.events > 0
        elif text := line.decode("utf-8", "replace").strip():
            self._said = text.removeprefix("ostinato: ")[:2000]

    async def _watch(self, pid: int) -> None:
        """Ask it for its numbers, again and again."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS if self._ran else _FIRST_LOOK_SECONDS)
            with contextlib.suppress(JobError, OSError):
                found = await self._in_thread(self._look, pid)
                if found is None:
                    continue
                self.status = found
                if found.get("state") == "RUNNING" and not self._ran:
                    self._ran = True
                    if self.job.error is not None or not self.job.has_run:
                        await self._note(has_run=True, error=None)

    def _look(self, pid: int) -> dict[str, Any] | None:
        if self._entry is None or self._entry.pid != pid:
            self._entry = next((each for each in sweep(self._runtime) if each.pid == pid), None)
        if self._entry is None:
            return None
        answer = ask(self._runtime, self._entry, Ask("status"))
        return answer if isinstance(answer, dict) else None

    # What is asked of it

    async def savepoint(self, target: str) -> dict[str, Any]:
        """Take a savepoint. Raises ConflictError, NotReadyError."""
        return await self._ask(Ask("savepoint", target))

    async def stop(self, target: str, *, drain: bool) -> dict[str, Any]:
        """Stop it with a savepoint. Raises ConflictError, NotReadyError."""
        if self._asking:
            raise ConflictError(f"job {self.job.id} is being stopped already")
        self._asking = True
        try:
            # Written before: whoever is killed between the savepoint and the answer finds that the job has stopped.
            await self._note(stopping=target)
            try:
                taken = await self._ask(Ask("stop", target, drain))
            except (ConflictError, NotReadyError):
                if self.job.state not in ENDED:
                    await self._note(stopping=None)
                raise
            await self.wait()
            return taken
        finally:
            self._asking = False

    async def cancel(self) -> None:
        """End it at once."""
        # Written before: whatever happens to the server now, it is not begun again.
        await self._note(state="CANCELED", ended_ms=_now_ms(), error=None)
        self._cancelled.set()
        entry = self._entry
        if self.pid is not None:
            asking = None
            if entry is not None and entry.pid == self.pid:
                asking = asyncio.create_task(self._in_thread(_ask_quietly, self._runtime, entry))
            else:
                self._signal(signal.SIGKILL)
            assert self._task is not None
            done, _ = await asyncio.wait({self._task}, timeout=_CANCEL_SECONDS)
            if not done:
                self._signal(signal.SIGKILL)
            if asking is not None:
                await asyncio.gather(asking, return_exceptions=True)
        await self.wait()

    async def _ask(self, request: Ask) -> dict[str, Any]:
        entry = self._entry
        if self.pid is None or entry is None or entry.pid != self.pid:
            raise NotReadyError(f"job {self.job.id} is {self.job.state} and does not answer yet; ask again in a moment")
        try:
            answer = await self._in_thread(ask, self._runtime, entry, request)
        except JobError as error:
            raise ConflictError(error.message) from error
        assert isinstance(answer, dict)
        return answer

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    # What is kept

    async def _note(self, **changes: Any) -> None:
        self.job = replace(self.job, **changes)
        await self._save(self.job)

    async def _end(self, state: JobState, *, error: str | None, code: int | None = None) -> None:
        numbers = self._summary
        changes: dict[str, Any] = {
            "exit_code": code,
            "events": numbers.events if numbers else self.status.get("events", 0),
            "matches": numbers.matches if numbers else self.status.get("matches", 0),
            "last_checkpoint_ms": last_checkpoint(self.status),
        }
        if self.job.state not in ENDED:
            changes |= {"state": state, "ended_ms": _now_ms(), "error": error}
        await self._note(**changes)
        if self.job.state in ("FINISHED", "STOPPED"):
            # Not before it is written that the job is over: the next server would begin it anew.
            await asyncio.to_thread(self.home.drop_checkpoints)
        log.info("a job has ended", extra={"job": self.job.name, "state": self.job.state, "reason": error})


def last_checkpoint(status: Mapping[str, Any]) -> int | None:
    """When the last checkpoint was taken, epoch ms."""
    checkpoints = status.get("checkpoints") or {}
    last = checkpoints.get("last") or {}
    taken = last.get("taken_at")
    return taken if isinstance(taken, int) else None


def _ask_quietly(runtime: Path, entry: Entry) -> None:
    with contextlib.suppress(JobError):
        ask(runtime, entry, Ask("cancel"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
