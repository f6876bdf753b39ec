"""The composition root of the server: what is opened, in which order, and closed in the other."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ostinato.server.administration import Administration, Standing
from ostinato.server.catalog import Catalog, CatalogError, Role, TokenExistsError
from ostinato.server.config import Loaded, ServerConfig
from ostinato.server.data_directory import TOKEN, DataDirectory, RunningServer
from ostinato.server.endpoint import Endpoint, registered
from ostinato.server.http.app import Api
from ostinato.server.http.routes import ROUTES
from ostinato.server.http.runner import Runner
from ostinato.server.http.services import Services
from ostinato.server.registry import RegistryError
from ostinato.server.services.metering import Metering
from ostinato.server.token_file import TokenFileError, read_tokens

FIRST_TOKEN = "operator"  # noqa: S105 - a name
"""The name of the token that the first start makes."""

_TOUCH_SECONDS = 60.0
_log = logging.getLogger("ostinato.server")


class Application:
    """The server, from entering the context until it is left.

    Opened in this order, and closed in the other: the catalog; the services that `_open_services` adds; the HTTP server
    last, so that no request comes before there is something to answer it, and none is lost while the rest is closed.

    Attributes:
        config, directory: what it was started with.
        catalog: the database.
        services: what the routes call.
        standing: what the services say of readiness, progress and metrics.
        api: the ASGI application.
        first_token: the text of the token that this start has made; None at later starts.
    """

    def __init__(
        self, loaded: Loaded, directory: DataDirectory, sockets: list[socket.socket], *, new_token: bool = False
    ) -> None:
        """`sockets` listen already and are closed with the application; `new_token` makes another operator's token."""
        self.loaded = loaded
        self.config: ServerConfig = loaded.config
        self.directory = directory
        self.services = Services()
        self.standing = Standing(url=url_of(loaded.config, sockets))
        self.first_token: str | None = None
        self.catalog: Catalog
        self.api: Api
        self._sockets = sockets
        self._new_token = new_token
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open everything.

        Raises:
            CatalogError, TokenFileError, OSError: what cannot be opened; what was opened before is closed.
        """
        async with AsyncExitStack() as stack:
            for made in self._sockets:
                stack.callback(made.close)
            self.catalog = await asyncio.to_thread(Catalog, self.directory.path)
            stack.push_async_callback(asyncio.to_thread, self.catalog.close)
            await asyncio.to_thread(self._take_in_tokens)
            touching = asyncio.create_task(self._keep_token_use(), name="token use")
            stack.push_async_callback(_end, touching)
            administration = Administration(self.loaded, self.catalog, self.standing)
            self.services.server = self.services.tokens = administration
            self.metering = Metering(ROUTES)
            self.api = Api(self.config, ROUTES, self.services, self.catalog, self.metering.observe)
            await self._open_services(stack)
            runner = Runner(self.api, self.config, self._sockets)
            await runner.start()
            stack.push_async_callback(runner.stop)
            running = RunningServer(os.getpid(), self.standing.url, time.time_ns() // 1_000_000)
            await asyncio.to_thread(self.directory.announce, running)
            stack.enter_context(self._listed(running))
            self._stack = stack.pop_all()
        return self

    async def _open_services(self, stack: AsyncExitStack) -> None:
        """Open what the routes need, put it into `services`, and its closing on the stack."""
        from ostinato.server.services.core import Core

        self.core = Core(self)
        await self.core.open(self, stack)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.standing.ending = True
        await self._stack.aclose()

    @contextmanager
    def _listed(self, running: RunningServer) -> Iterator[None]:
        """Let the commands of this user find the server, where there is a place for that."""
        endpoint = Endpoint(
            url=running.url,
            pid=running.pid,
            since_ms=running.started_ms,
            data_dir=str(self.directory.path),
            token_file=str(self.directory.path / TOKEN) if self.config.auth.enabled else None,
            ca_file=self.config.tls.cert,
        )
        with ExitStack() as stack:
            try:
                stack.enter_context(registered(endpoint))
            except RegistryError as error:
                _log.warning("commands will not find this server by themselves: %s", error)
            yield

    def _take_in_tokens(self) -> None:
        """Make the first token, and take in those of `auth.tokens_file`."""
        tokens = self.catalog.tokens
        if not any(token.role is Role.OPERATOR for token in tokens.all()) or self._new_token:
            name = FIRST_TOKEN
            taken = {token.name for token in tokens.all()}
            number = 2
            while name in taken:
                name, number = f"{FIRST_TOKEN}-{number}", number + 1
            _, self.first_token = tokens.create(name, Role.OPERATOR, "the server")
            self.directory.write_token(self.first_token)
            self.catalog.audit.add("the server", "operator", "", "create_token", name, {"role": "operator"})
        if self.config.auth.tokens_file is not None:
            path = Path(self.config.auth.tokens_file).expanduser()
            for declared in read_tokens(path):
                try:
                    tokens.declare(declared.name, declared.role, declared.digest)
                except TokenExistsError:
                    raise TokenFileError(f"{path}: there is a token `{declared.name}` in the catalog already") from None

    async def _keep_token_use(self) -> None:
        while True:
            await asyncio.sleep(_TOUCH_SECONDS)
            try:
                await self.catalog.database.run(self.catalog.tokens.write_used)
            except CatalogError as error:
                # it is written again in a minute
                _log.warning("when tokens were used cannot be kept: %s", error)


def url_of(config: ServerConfig, sockets: list[socket.socket]) -> str:
    """Where the server is reached."""
    host = config.server.host
    port = sockets[0].getsockname()[1] if sockets else config.server.port
    scheme = "https" if config.tls.cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
