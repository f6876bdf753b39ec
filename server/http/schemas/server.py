"""The server itself: what it is, who may use it, what was done."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ostinato.server.http.schemas.common import Name, PageQuery

RoleName = Literal["viewer", "author", "operator"]


class ServerInfo(msgspec.Struct, frozen=True):
    """The server, and as whom the caller is seen."""

    id: str
    version: str
    started_ms: int
    url: str
    who: str
    role: RoleName
    ready: bool
    generation: int | None = None
    journal_position: int | None = None
    match_seq: int | None = None


class TokenInfo(msgspec.Struct, frozen=True):
    """A token; its text is shown only when it is made. `declared`: by a file of the configuration."""

    name: str
    role: RoleName
    created_ms: int
    created_by: str
    last_used_ms: int | None
    expires_ms: int | None
    declared: bool


class TokenPage(msgspec.Struct, frozen=True):
    """Tokens by name."""

    items: list[TokenInfo]
    next: str | None


class TokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to make; `expires_ms` is epoch ms, none never expires."""

    name: Name
    role: RoleName
    expires_ms: Annotated[int, msgspec.Meta(ge=0)] | None = None


class NewToken(msgspec.Struct, frozen=True):
    """The token that was made; its text is shown this once."""

    token: str
    name: str
    role: RoleName
    expires_ms: int | None


class Ticket(msgspec.Struct, frozen=True):
    """Stands for the caller's token in one request, as `?ticket=`: browsers set no headers for SSE and WebSocket."""

    ticket: str
    expires_ms: int


class AuditQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rows of the audit log."""

    who: str | None = None
    action: str | None = None
    target: str | None = None


class AuditRow(msgspec.Struct, frozen=True):
    """Who did what, and what came of it."""

    seq: int
    at_ms: int
    who: str
    role: str
    remote: str
    action: str
    target: str
    detail: dict[str, Any]
    outcome: str


class AuditPage(msgspec.Struct, frozen=True):
    """The audit log, the newest first."""

    items: list[AuditRow]
    next: str | None


class ConfigValue(msgspec.Struct, frozen=True):
    """A setting; secrets are `***`."""

    value: Any
    origin: str


class ConfigView(msgspec.Struct, frozen=True):
    """All settings by `section.key`."""

    file: str | None
    settings: dict[str, ConfigValue]
