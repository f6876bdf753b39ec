"""The server as a whole, for the API: what it is, whether it is well, who may use it, how it is set."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

import msgspec

from ostinato.server.catalog import Catalog, LastOperatorError, Role, Token, TokenExistsError
from ostinato.server.config import Loaded, visible
from ostinato.server.failures import ConflictError, NotThereError, RefusedError
from ostinato.server.http import pages
from ostinato.server.http.caller import Caller
from ostinato.server.http.schemas import server as schemas
from ostinato.server.http.schemas.common import Health
from ostinato.state.typed import convert


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the server is, for `GET /v1/server`."""

    generation: int | None = None
    journal_position: int | None = None
    match_seq: int | None = None


@dataclass(slots=True)
class Standing:
    """What those who build the server tell the administration.

    Attributes:
        url: where it is reached.
        checks: of readiness by name: each says what is wrong, or None.
        vital: of health: what a restart might mend.
        progress: how far it is.
        metrics: in Prometheus' text form, and their content type.
        ending: it takes no more work.
    """

    url: str = ""
    checks: dict[str, Callable[[], str | None]] = field(default_factory=dict)
    vital: dict[str, Callable[[], str | None]] = field(default_factory=dict)
    progress: Callable[[], Progress] = Progress
    metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None = None
    ending: bool = False


class Administration:
    """`ServerService` and `TokenService`."""

    def __init__(self, loaded: Loaded, catalog: Catalog, standing: Standing) -> None:
        self._loaded = loaded
        self._catalog = catalog
        self._standing = standing
        self._started_ms = time.time_ns() // 1_000_000

    async def health(self) -> Health:
        return _health(self._standing.vital)

    async def ready(self) -> Health:
        if self._standing.ending:
            return Health("ending", {"server": "it is ending"})
        return _health(self._standing.vital | self._standing.checks)

    async def info(self, caller: Caller) -> schemas.ServerInfo:
        progress = self._standing.progress()
        return schemas.ServerInfo(
            id=self._catalog.facts.server_id,
            version=version("ostinato"),
            started_ms=self._started_ms,
            url=self._standing.url,
            who=caller.name,
            role=role_name(caller.role),
            ready=(await self.ready()).status == "ok",
            generation=progress.generation,
            journal_position=progress.journal_position,
            match_seq=progress.match_seq,
        )

    async def config(self) -> schemas.ConfigView:
        settings = {
            f"{section}.{key}": schemas.ConfigValue(value, self._loaded.origins[f"{section}.{key}"])
            for section, keys in visible(self._loaded.config).items()
            for key, value in keys.items()
        }
        return schemas.ConfigView(str(self._loaded.file) if self._loaded.file else None, settings)

    async def metrics(self) -> tuple[bytes, str]:
        if self._standing.metrics is None:
            return b"", "text/plain; version=0.0.4"
        return await self._standing.metrics()

    async def tokens(self, limit: int, after: str | None) -> schemas.TokenPage:
        items, following = pages.page_of(self._catalog.tokens.all(), limit, after, lambda token: token.name)
        return schemas.TokenPage([_token(token) for token in items], following)

    async def create(self, request: schemas.TokenRequest, caller: Caller) -> schemas.NewToken:
        if request.expires_ms is not None and request.expires_ms <= time.time_ns() // 1_000_000:
            raise RefusedError("`expires_ms` is past: the token could never be used")
        create = partial(
            self._catalog.tokens.create, request.name, Role.named(request.role), caller.name, request.expires_ms
        )
        try:
            token, text = await self._catalog.database.run(create)
        except TokenExistsError:
            raise ConflictError(f"there is a token `{request.name}` already; delete it first") from None
        return schemas.NewToken(text, token.name, role_name(token.role), token.expires_ms)

    async def delete(self, name: str, caller: Caller) -> None:  # noqa: ARG002 - the audit log knows who
        known = next((token for token in self._catalog.tokens.all() if token.name == name), None)
        if known is not None and known.declared:
            raise ConflictError(f"the token `{name}` is of auth.tokens_file; take it out there")
        try:
            token = await self._catalog.database.run(self._catalog.tokens.delete, name)
        except LastOperatorError:
            raise ConflictError(
                f"`{name}` is the last token of an operator: nobody could make another; make that first"
            ) from None
        if token is None:
            raise NotThereError(f"there is no token `{name}`")

    async def audit(self, query: schemas.AuditQuery) -> schemas.AuditPage:
        before = pages.number_of(query.after)
        page = partial(
            self._catalog.audit.page,
            query.limit + 1,
            before,
            who=query.who,
            action=query.action,
            target=query.target,
        )
        entries = await self._catalog.database.run(page)
        more = len(entries) > query.limit
        rows = [convert(msgspec.structs.asdict(entry), schemas.AuditRow) for entry in entries[: query.limit]]
        return schemas.AuditPage(rows, pages.cursor(str(rows[-1].seq)) if more else None)


def _health(checks: dict[str, Callable[[], str | None]]) -> Health:
    wrong = {name: said for name, check in checks.items() if (said := check()) is not None}
    return Health("unwell" if wrong else "ok", wrong)


def role_name(role: Role) -> schemas.RoleName:
    """A role as JSON has it."""
    names: dict[Role, schemas.RoleName] = {Role.VIEWER: "viewer", Role.AUTHOR: "author", Role.OPERATOR: "operator"}
    return names[role]


def _token(token: Token) -> schemas.TokenInfo:
    return schemas.TokenInfo(
        token.name,
        role_name(token.role),
        token.created_ms,
        token.created_by,
        token.last_used_ms,
        token.expires_ms,
        token.declared,
    )
