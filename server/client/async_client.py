"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

import httpx

from ostinato.server.client import calls
from ostinato.server.client.batches import Batcher, Event, Sending, Sent
from ostinato.server.client.call import Call, Page, next_page
from ostinato.server.client.errors import ApiError, ClientError, Unreachable
from ostinato.server.client.following import Follower, Following, Lost
from ostinato.server.client.methods import AsyncMethod
from ostinato.server.client.retries import Retries
from ostinato.server.client.target import find_target
from ostinato.server.client.transport import answer_of, problem_of, request_of, settings_of, translated
from ostinato.server.http.schemas.matches import MatchInfo, RowKind

T = TypeVar("T")


class AsyncClient:
    """Talks to an Ostinato server from asyncio; belongs to one event loop.

    The methods are those of `Client`, to be awaited; they take the same arguments and raise the same::

        async with AsyncClient() as client:
            await client.send("logins", events)
            async with aclosing(client.follow(pattern="suspicious_login")) as matches:
                async for match in matches:
                    print(match.seq, match.row)

    Attributes:
        url: of the server.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        ca_file: str | None = None,
        timeout_seconds: float = 30.0,
        retries: Retries | None = None,
    ) -> None:
        """As of `Client`."""
        target = find_target(url, token, ca_file)
        self.url = target.url
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(**settings_of(target, timeout_seconds))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def do(self, call: Call[T], /) -> T:
        """Do any request of `ostinato.server.client.calls`; see `Client.do`."""
        failed = 0
        while True:
            try:
                with translated(self.url):
                    response = await self._http.send(request_of(self._http, call))
                return answer_of(call, response)
            except ClientError as error:
                failed += 1
                pause = self._retries.pause(call, failed, error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def every(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        """The items of all pages of a list, from the page on that is asked for."""
        following: Call[Page[T]] | None = call
        while following is not None:
            page = await self.do(following)
            for item in page.items:
                yield item
            following = next_page(following, page)

    async def send(
        self,
        stream: str,
        events: Iterable[Event] | AsyncIterable[Event],
        options: Sending = Sending(),  # noqa: B008 - frozen
    ) -> Sent:
        """Send events, in batches, in their order, and wait until all are durable; see `Client.send`."""
        sent, batcher = Sent(), Batcher(stream, options)
        async for event in _each(events):
            if (call := batcher.add(event)) is not None:
                sent.add(await self.do(call))
        if (call := batcher.rest()) is not None:
            sent.add(await self.do(call))
        return sent

    async def follow(
        self,
        *,
        stream: str | None = None,
        pattern: str | None = None,
        kind: RowKind | None = None,
        after: int | None = None,
        on_lost: Callable[[Lost], None] | None = None,
        on_break: Callable[[ClientError], None] | None = None,
    ) -> AsyncGenerator[MatchInfo, None]:
        """Matches as they come, without an end, none left out and none twice; see `Client.follow`.

        Whoever stops before the end closes it (`contextlib.aclosing`).
        """
        follower = Follower(Following(stream, pattern, kind, after), self._retries, on_lost, on_break)
        if (where := follower.where()) is not None:
            follower.begin(await self.do(where))
        while True:
            try:
                async with aclosing(self._listen(follower)) as chunks:
                    async for chunk in chunks:
                        for item in follower.feed(chunk):
                            if (match := follower.admit(item)) is not None:
                                yield match
                error: ClientError = Unreachable(f"{self.url} has ended the connection")
            except (Unreachable, ApiError) as broke:
                error = broke
            await asyncio.sleep(follower.broke(error))

    async def _listen(self, follower: Follower) -> AsyncGenerator[bytes, None]:
        """What one connection gives, until it ends."""
        with translated(self.url):
            request = request_of(self._http, follower.connect(), streamed=True)
            response = await self._http.send(request, stream=True)
        try:
            if not response.is_success:
                with translated(self.url):
                    await response.aread()
                raise problem_of(response)
            follower.connected()
            with translated(self.url):
                async for chunk in response.aiter_raw():
                    yield chunk
        finally:
            await response.aclose()

    healthz = AsyncMethod(calls.server.healthz)
    readyz = AsyncMethod(calls.server.readyz)
    openapi = AsyncMethod(calls.server.openapi)
    metrics = AsyncMethod(calls.server.metrics)
    server = AsyncMethod(calls.server.server)
    config = AsyncMethod(calls.server.config)
    tokens = AsyncMethod(calls.server.tokens)
    create_token = AsyncMethod(calls.server.create_token)
    delete_token = AsyncMethod(calls.server.delete_token)
    create_ticket = AsyncMethod(calls.server.create_ticket)
    audit = AsyncMethod(calls.server.audit)

    streams = AsyncMethod(calls.streams.streams)
    stream = AsyncMethod(calls.streams.stream)
    put_stream = AsyncMethod(calls.streams.put_stream)
    delete_stream = AsyncMethod(calls.streams.delete_stream)
    append_events = AsyncMethod(calls.streams.append_events)

    apply = AsyncMethod(calls.patterns.apply)
    patterns = AsyncMethod(calls.patterns.patterns)
    pattern = AsyncMethod(calls.patterns.pattern)
    put_pattern = AsyncMethod(calls.patterns.put_pattern)
    delete_pattern = AsyncMethod(calls.patterns.delete_pattern)
    versions = AsyncMethod(calls.patterns.versions)
    version = AsyncMethod(calls.patterns.version)
    diff = AsyncMethod(calls.patterns.diff)
    rollback = AsyncMethod(calls.patterns.rollback)
    pause = AsyncMethod(calls.patterns.pause)
    resume = AsyncMethod(calls.patterns.resume)
    put_shadow = AsyncMethod(calls.patterns.put_shadow)
    delete_shadow = AsyncMethod(calls.patterns.delete_shadow)
    why = AsyncMethod(calls.patterns.why)
    graph = AsyncMethod(calls.patterns.graph)
    changes = AsyncMethod(calls.patterns.changes)
    params = AsyncMethod(calls.patterns.params)
    param = AsyncMethod(calls.patterns.param)
    put_param = AsyncMethod(calls.patterns.put_param)
    delete_param = AsyncMethod(calls.patterns.delete_param)

    matches = AsyncMethod(calls.matches.matches)
    dead_letters = AsyncMethod(calls.matches.dead_letters)
    outputs = AsyncMethod(calls.matches.outputs)
    output = AsyncMethod(calls.matches.output)
    put_output = AsyncMethod(calls.matches.put_output)
    delete_output = AsyncMethod(calls.matches.delete_output)

    jobs = AsyncMethod(calls.jobs.jobs)
    job = AsyncMethod(calls.jobs.job)
    create_job = AsyncMethod(calls.jobs.create_job)
    cancel_job = AsyncMethod(calls.jobs.cancel_job)
    create_savepoint = AsyncMethod(calls.jobs.create_savepoint)
    stop_job = AsyncMethod(calls.jobs.stop_job)
    backtests = AsyncMethod(calls.jobs.backtests)
    backtest = AsyncMethod(calls.jobs.backtest)
    create_backtest = AsyncMethod(calls.jobs.create_backtest)
    delete_backtest = AsyncMethod(calls.jobs.delete_backtest)
    checkpoints = AsyncMethod(calls.jobs.checkpoints)
    take_checkpoint = AsyncMethod(calls.jobs.take_checkpoint)


async def _each(events: Iterable[Event] | AsyncIterable[Event]) -> AsyncIterator[Event]:
    if isinstance(events, AsyncIterable):
        async for event in events:
            yield event
    else:
        for event in events:
            yield event
