"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from types import TracebackType
from typing import Self, TypeVar

import httpx

from ostinato.server.client import calls
from ostinato.server.client.batches import Event, Sending, Sent, requests_of
from ostinato.server.client.call import Call, Page, next_page
from ostinato.server.client.errors import ApiError, ClientError, Unreachable
from ostinato.server.client.following import Follower, Following, Lost
from ostinato.server.client.methods import Method
from ostinato.server.client.retries import Retries
from ostinato.server.client.target import find_target
from ostinato.server.client.transport import answer_of, problem_of, request_of, settings_of, translated
from ostinato.server.http.schemas.matches import MatchInfo, RowKind

T = TypeVar("T")


class Client:
    """Talks to an Ostinato server. May be used from several threads.

    Each request of the API is a method, named after its route; answers are the Structs of
    `ostinato.server.http.schemas`, errors are exceptions (`ApiError`, `Unreachable`)::

        with Client() as client:                    # the server of this user on this machine
            client.apply(Path("logins.cep").read_text(), comment="five attempts")
            client.send("logins", [{"user": "eve", "ts": 1700000000000, "status": "FAILED"}])
            for match in client.every(calls.matches.matches(pattern="suspicious_login")):
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
        """Which server: see `find_target`. No connection is made yet.

        Args:
            url: as ``https://HOST:PORT``.
            token: who asks.
            ca_file: certificates by which the server is known; those of the system by default.
            timeout_seconds: how long an answer may take.
            retries: what is tried again when it fails, and how often.

        Raises:
            NoServerError: no server is named, and none is found.
        """
        target = find_target(url, token, ca_file)
        self.url = target.url
        self._retries = retries or Retries()
        self._http = httpx.Client(**settings_of(target, timeout_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def do(self, call: Call[T], /) -> T:
        """Do any request of `ostinato.server.client.calls`; all methods come here.

        Raises:
            ApiError: the server says no.
            Unreachable: it cannot be reached; `sent` says whether it may have been done all the same.
        """
        failed = 0
        while True:
            try:
                with translated(self.url):
                    response = self._http.send(request_of(self._http, call))
                return answer_of(call, response)
            except ClientError as error:
                failed += 1
                pause = self._retries.pause(call, failed, error)
                if pause is None:
                    raise
            time.sleep(pause)

    def every(self, call: Call[Page[T]]) -> Iterator[T]:
        """The items of all pages of a list, from the page on that is asked for::

        for pattern in client.every(calls.patterns.patterns(state="paused")): ...
        """
        following: Call[Page[T]] | None = call
        while following is not None:
            page = self.do(following)
            yield from page.items
            following = next_page(following, page)

    def send(self, stream: str, events: Iterable[Event], options: Sending = Sending()) -> Sent:  # noqa: B008 - frozen
        """Send events, in batches, in their order, and wait until all are durable.

        Each batch has an idempotency key, so what is sent again after a broken connection is not taken twice.

        Args:
            stream: its name.
            events: mappings, Structs, or JSON objects as text.
            options: how large batches are, and what becomes of events that do not fit.

        Raises:
            Refused: an event does not fit its stream; those of earlier batches were taken.
        """
        sent = Sent()
        for call in requests_of(stream, events, options):
            sent.add(self.do(call))
        return sent

    def follow(
        self,
        *,
        stream: str | None = None,
        pattern: str | None = None,
        kind: RowKind | None = None,
        after: int | None = None,
        on_lost: Callable[[Lost], None] | None = None,
        on_break: Callable[[ClientError], None] | None = None,
    ) -> Generator[MatchInfo, None, None]:
        """Matches as they come, without an end, none left out and none twice::

            for match in client.follow(pattern="suspicious_login", after=0): ...

        A connection that breaks is made again, for as long as it takes.

        Args:
            stream, pattern, kind: only such.
            after: also those that are there already, with a greater number; None: from now on.
            on_lost: is told of matches that the server has deleted before they were read; without it they end this.
            on_break: is told when the connection broke.

        Raises:
            MatchesLostError: see `on_lost`.
        """
        follower = Follower(Following(stream, pattern, kind, after), self._retries, on_lost, on_break)
        if (where := follower.where()) is not None:
            follower.begin(self.do(where))
        while True:
            try:
                with closing(self._listen(follower)) as chunks:
                    for chunk in chunks:
                        for item in follower.feed(chunk):
                            if (match := follower.admit(item)) is not None:
                                yield match
                error: ClientError = Unreachable(f"{self.url} has ended the connection")
            except (Unreachable, ApiError) as broke:
                error = broke
            time.sleep(follower.broke(error))

    def _listen(self, follower: Follower) -> Generator[bytes, None, None]:
        """What one connection gives, until it ends."""
        with translated(self.url):
            request = request_of(self._http, follower.connect(), streamed=True)
            response = self._http.send(request, stream=True)
        try:
            if not response.is_success:
                with translated(self.url):
                    response.read()
                raise problem_of(response)
            follower.connected()
            with translated(self.url):
                yield from response.iter_raw()
        finally:
            response.close()

    healthz = Method(calls.server.healthz)
    readyz = Method(calls.server.readyz)
    openapi = Method(calls.server.openapi)
    metrics = Method(calls.server.metrics)
    server = Method(calls.server.server)
    config = Method(calls.server.config)
    tokens = Method(calls.server.tokens)
    create_token = Method(calls.server.create_token)
    delete_token = Method(calls.server.delete_token)
    create_ticket = Method(calls.server.create_ticket)
    audit = Method(calls.server.audit)

    streams = Method(calls.streams.streams)
    stream = Method(calls.streams.stream)
    put_stream = Method(calls.streams.put_stream)
    delete_stream = Method(calls.streams.delete_stream)
    append_events = Method(calls.streams.append_events)

    apply = Method(calls.patterns.apply)
    patterns = Method(calls.patterns.patterns)
    pattern = Method(calls.patterns.pattern)
    put_pattern = Method(calls.patterns.put_pattern)
    delete_pattern = Method(calls.patterns.delete_pattern)
    versions = Method(calls.patterns.versions)
    version = Method(calls.patterns.version)
    diff = Method(calls.patterns.diff)
    rollback = Method(calls.patterns.rollback)
    pause = Method(calls.patterns.pause)
    resume = Method(calls.patterns.resume)
    put_shadow = Method(calls.patterns.put_shadow)
    delete_shadow = Method(calls.patterns.delete_shadow)
    why = Method(calls.patterns.why)
    graph = Method(calls.patterns.graph)
    changes = Method(calls.patterns.changes)
    params = Method(calls.patterns.params)
    param = Method(calls.patterns.param)
    put_param = Method(calls.patterns.put_param)
    delete_param = Method(calls.patterns.delete_param)

    matches = Method(calls.matches.matches)
    dead_letters = Method(calls.matches.dead_letters)
    outputs = Method(calls.matches.outputs)
    output = Method(calls.matches.output)
    put_output = Method(calls.matches.put_output)
    delete_output = Method(calls.matches.delete_output)

    jobs = Method(calls.jobs.jobs)
    job = Method(calls.jobs.job)
    create_job = Method(calls.jobs.create_job)
    cancel_job = Method(calls.jobs.cancel_job)
    create_savepoint = Method(calls.jobs.create_savepoint)
    stop_job = Method(calls.jobs.stop_job)
    backtests = Method(calls.jobs.backtests)
    backtest = Method(calls.jobs.backtest)
    create_backtest = Method(calls.jobs.create_backtest)
    delete_backtest = Method(calls.jobs.delete_backtest)
    checkpoints = Method(calls.jobs.checkpoints)
    take_checkpoint = Method(calls.jobs.take_checkpoint)
