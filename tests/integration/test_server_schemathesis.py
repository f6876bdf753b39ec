"""What the OpenAPI document promises, held against the whole server: journal, live worker and all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from ostinato.server.application import Application
from ostinato.server.config import load
from ostinato.server.data_directory import DataDirectory
from ostinato.server.http.openapi import describe
from ostinato.server.http.routes import ROUTES
from ostinato.server.http.routing import WEBSOCKET
from ostinato.server.http.runner import bind
from ostinato.server.http.services import Services

EXAMPLES = 4
"""Per operation, besides those that schemathesis works out from the edges of each schema."""

ENDLESS = {"follow_matches"}
"""Answers without an end; `test_http_limits.py` and the hub's tests have them."""

ELSEWHERE = [ignored_auth, positive_data_acceptance]
"""The first would have to know how the token is sent: `test_http_auth.py` asks every route without one. The second
takes whatever fits a schema for good: the text of a pattern, the name of a stream, a `next` of a page are more."""

START_SECONDS = 60.0


STOCK = """
stream A (k string key, ts timestamp(ms) time, v int)
param B = 5
pattern A on A match a -> b define a as v > B, b as v = 0 within 1 min emit k, a.v as v into C
"""
"""There from the beginning, and again for each operation: `A` is the name that schemathesis takes first."""


@dataclass
class Served:
    """Where the server is, and which services it has; `api` is what needs none."""

    url: str
    token: str
    services: frozenset[str]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


class Server(threading.Thread):
    """The application in a thread with a loop of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="server")
        self._folder = folder
        self.ready = threading.Event()
        self.served: Served | None = None
        self.error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - the test says it
            self.error = error
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        settings = {"server.port": 0, "server.data_dir": str(self._folder), "log.level": "error"}
        loaded = load(None, settings, {})
        with DataDirectory(self._folder) as directory:
            async with Application(loaded, directory, [bind("127.0.0.1", 0)]) as application:
                assert application.first_token is not None
                await self._until_ready(application)
                named = {field.name: getattr(application.services, field.name) for field in fields(Services)}
                there = frozenset({"api", *(name for name, service in named.items() if service is not None)})
                self.served = Served(application.standing.url, application.first_token, there)
                self.ready.set()
                await self._ended.wait()

    async def _until_ready(self, application: Application) -> None:
        server = application.services.server
        assert server is not None
        async with asyncio.timeout(START_SECONDS):
            while (await server.ready()).status != "ok":  # noqa: ASYNC110 - readiness is asked for, as a balancer does
                await asyncio.sleep(0.05)

    def end(self) -> None:
        if self._loop is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
        self.join(START_SECONDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    thread = Server(tmp_path_factory.mktemp("server") / "data")
    thread.start()
    assert thread.ready.wait(START_SECONDS)
    try:
        if thread.error is not None:
            raise thread.error
        assert thread.served is not None
        yield thread.served
    finally:
        thread.end()
    assert not thread.is_alive()
    assert thread.error is None


@schemathesis.serializer("application/x-ndjson")
def lines(context: schemathesis.SerializationContext, value: object) -> bytes:
    """What is generated as a text, as it is; bytes of cases that are wrong on purpose too."""
    return value if isinstance(value, bytes) else str(value).encode(errors="ignore")


schema = schemathesis.openapi.from_dict(
    describe([route for route in ROUTES if route.method != WEBSOCKET and route.name not in ENDLESS])
)


@pytest.fixture
def stocked(server: Served) -> Served:
    """The server with a stream, a parameter and a pattern."""
    if httpx.get(f"{server.url}/v1/patterns/A", headers=server.headers).status_code == 404:
        headers = {**server.headers, "content-type": "text/plain"}
        answer = httpx.post(f"{server.url}/v1/apply", headers=headers, content=STOCK, timeout=60)
        assert answer.status_code == 200, answer.text
    return server


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_the_server_keeps_what_its_document_says(case: schemathesis.Case[Any], stocked: Served) -> None:
    if set(case.operation.tags or ()) <= stocked.services:
        case.call_and_validate(base_url=stocked.url, headers=stocked.headers, timeout=20, excluded_checks=ELSEWHERE)
    else:
        # a route whose service is not there says so, whatever it is asked
        answer = case.call(base_url=stocked.url, headers=stocked.headers, timeout=20)
        assert answer.status_code in (400, 401, 404, 405, 413, 415, 422, 503), answer.status_code
        assert answer.headers["content-type"] == ["application/problem+json"]
