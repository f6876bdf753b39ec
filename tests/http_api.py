"""The HTTP API for tests: over ASGI, or over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ostinato.server.administration import Administration, Standing
from ostinato.server.catalog import Catalog, Role
from ostinato.server.config import Loaded, load
from ostinato.server.http.app import Api
from ostinato.server.http.routes import ROUTES
from ostinato.server.http.runner import Runner, bind
from ostinato.server.http.services import Services


@dataclass
class Running:
    """An API with its parts, and a token of each role."""

    api: Api
    catalog: Catalog
    loaded: Loaded
    services: Services
    standing: Standing
    tokens: Mapping[str, str]
    port: int = 0
    runner: Runner | None = None
    observed: list[tuple[str, int]] = field(default_factory=list)

    def headers(self, role: str = "operator") -> dict[str, str]:
        return {"authorization": f"Bearer {self.tokens[role]}"}

    def client(self, role: str | None = "operator") -> httpx.AsyncClient:
        """A client that speaks ASGI to the API, in this process."""
        headers = {} if role is None else self.headers(role)
        transport = httpx.ASGITransport(app=self.api)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


def make(folder: Path, services: Services | None = None, **settings: object) -> Running:
    """An API over a new catalog; `settings` are ``section__key``."""
    flags = {name.replace("__", ".", 1): value for name, value in settings.items()}
    loaded = load(None, flags, {})
    catalog = Catalog(folder)
    tokens = {str(role): catalog.tokens.create(str(role), role, "the test")[1] for role in Role}
    services = services or Services()
    standing = Standing(url="http://localhost")
    administration = Administration(loaded, catalog, standing)
    services.server = services.tokens = administration
    running = Running(None, catalog, loaded, services, standing, tokens)  # type: ignore[arg-type]
    running.api = Api(
        loaded.config, ROUTES, services, catalog, lambda name, status, _: running.observed.append((name, status))
    )
    return running


@asynccontextmanager
async def served(running: Running) -> AsyncIterator[Running]:
    """The same on a free port of loopback."""
    listening = bind("127.0.0.1", 0)
    running.port = listening.getsockname()[1]
    running.runner = Runner(running.api, running.loaded.config, [listening])
    await running.runner.start()
    try:
        yield running
    finally:
        await running.runner.stop()
        listening.close()


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection, for what no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        # the other end may have been quicker
        with suppress(OSError):
            await writer.wait_closed()


def example_path(path: str) -> str:
    """A path of the table with something in its places."""
    for name, value in {"{name}": "x", "{id}": "x", "{version}": "1"}.items():
        path = path.replace(name, value)
    return path


def is_problem(answer: httpx.Response) -> dict[str, Any]:
    """Hold an answer against what every problem is; its document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"].startswith("urn:ostinato:problem:")
    assert document["title"]
    assert document["detail"], document
    assert "Traceback" not in answer.text
    return document
