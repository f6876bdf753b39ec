"""Queries of URLs as Structs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from ostinato.patterns.errors import did_you_mean
from ostinato.server.failures import Flaw
from ostinato.server.http.problems import HttpError, invalid
from ostinato.server.http.routing import BoundRoute
from ostinato.state.typed import convert

_MOST_FIELDS = 100


def read_query(bound: BoundRoute, query: bytes) -> tuple[msgspec.Struct | None, str | None]:
    """The route's Struct, and the ticket where the route takes one.

    Raises:
        HttpError: something is not known, twice, or not what it should be.
    """
    if not query:
        return bound.default_query, None
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise HttpError(400, f"the query cannot be read: {error}") from None
    ticket = None
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name == "ticket" and bound.route.ticket:
            ticket = value
        elif name in bound.lists:
            values.setdefault(name, []).append(value)
        elif name not in bound.query_names:
            raise _unknown(bound, name)
        elif name in values:
            raise HttpError(422, f"`{name}` is there twice", [Flaw("it is there twice", None, f"$.{name}")])
        elif value.lower() == "null" and name not in bound.texts:
            # msgspec would take the text for the value; what is not set stands in no query
            raise HttpError(422, f"`{name}` is `{value}`; leave it out", [Flaw("null", "leave it out", f"$.{name}")])
        else:
            values[name] = value
    if bound.route.query is None:
        return None, ticket
    try:
        return convert(values, bound.route.query, strict=False), ticket
    except msgspec.ValidationError as error:
        raise invalid(error, "the query") from None


def _unknown(bound: BoundRoute, name: str) -> HttpError:
    shown = name[:100]
    if name in ("token", "access_token", "api_key"):
        hint = "tokens stand in no URL: send `Authorization: Bearer TOKEN`, or get a ticket from POST /v1/tickets"
    elif not bound.query_names:
        hint = "this route has no query"
    else:
        hint = did_you_mean(name, bound.query_names) or f"there are {', '.join(bound.query_names)}"
    return HttpError(
        422, f"there is no `{shown}` in the query of this route; {hint}", [Flaw("unknown", hint, f"$.{shown}")]
    )
