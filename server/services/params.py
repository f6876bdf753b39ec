"""Values of parameters; see `ostinato.server.http.services.ParamService`."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING, Any

from ostinato.patterns.errors import PatternError
from ostinato.patterns.resolve import literal_of
from ostinato.server.catalog.definitions import ParamDef
from ostinato.server.changes.model import Author
from ostinato.server.changes.service import Changes, Check
from ostinato.server.changes.texts import param_in, params_in
from ostinato.server.failures import NotThereError
from ostinato.server.http.pages import page_of
from ostinato.server.http.schemas import patterns as schemas

if TYPE_CHECKING:
    from ostinato.server.http.caller import Caller, Precondition


class Params:
    """Over `Changes`."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def list(self, limit: int, after: str | None) -> schemas.ParamPage:
        params = self._changes.body.definitions.params
        names, more = page_of(sorted(params), limit, after, str)
        return schemas.ParamPage([self._info(name, params[name]) for name in names], more)

    async def get(self, name: str) -> schemas.ParamInfo:
        held = self._changes.body.definitions.params.get(name)
        if held is None:
            raise NotThereError(f"there is no parameter `{name}`")
        return self._info(name, held)

    async def put(
        self, name: str, value: schemas.ParamValue, caller: Caller, condition: Precondition
    ) -> schemas.ParamChanged:
        given = value.value
        text = (
            given
            if isinstance(given, str)
            else ("true" if given else "false")
            if isinstance(given, bool)
            else str(given)
        )
        author = Author(caller.name, value.comment)
        result = await self._changes.set_param(name, text, author, check=_held(name, condition))
        position = next(iter(result.position.values()), None)
        return schemas.ParamChanged(await self.get(name), result.generation, position)

    async def delete(self, name: str, caller: Caller, condition: Precondition) -> schemas.ParamChanged:
        result = await self._changes.set_param(name, None, Author(caller.name), check=_held(name, condition))
        position = next(iter(result.position.values()), None)
        return schemas.ParamChanged(await self.get(name), result.generation, position)

    def _info(self, name: str, held: ParamDef) -> schemas.ParamInfo:
        declared = param_in(held.text).value
        value: Any = declared.value
        if held.value is not None:
            try:
                value = literal_of(held.value, declared.type).value
            except (ValueError, PatternError):  # it was one when it was set
                value = held.value
        used = [
            pattern
            for pattern, held_pattern in sorted(self._changes.body.definitions.patterns.items())
            if name in params_in(self._changes.version(pattern, held_pattern.live).engine_text)
        ]
        return schemas.ParamInfo(
            name,
            str(declared.type),
            _plain(value),
            _plain(declared.value),
            held.value is not None,
            str(held.revision),
            used,
            held.at_ms,
            held.author,
        )


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, (decimal.Decimal, dt.date)):
        return str(value)
    return value


def _held(name: str, condition: Precondition) -> Check:
    def check(tag: str | None) -> None:
        condition.check(f"parameter `{name}`", tag)

    return check
