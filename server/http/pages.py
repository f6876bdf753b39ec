"""Pages of lists: `next` is opaque, so that what stands in it may change."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from ostinato.server.failures import MalformedError

T = TypeVar("T")


def cursor(place: str) -> str:
    """The `next` behind a place: a name, a number.

    >>> place_of(cursor("logins"))
    'logins'
    """
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def place_of(after: str) -> str:
    """What `cursor` was made of.

    Raises:
        MalformedError: this was not given by the server.
    """
    try:
        padded = after.encode("ascii") + b"=" * (-len(after) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (UnicodeError, binascii.Error):
        raise MalformedError(f"`after={after[:60]}` is no `next` of a page") from None


def number_of(after: str | None) -> int | None:
    """The number that a `next` was made of; None for None.

    Raises:
        MalformedError: this was not given by the server.
    """
    if after is None:
        return None
    place = place_of(after)
    if not (place.isascii() and place.isdigit() and len(place) < 19):
        raise MalformedError(f"`after={after[:60]}` is no `next` of this list")
    return int(place)


def page_of(items: Sequence[T], limit: int, after: str | None, name: Callable[[T], str]) -> tuple[list[T], str | None]:
    """A page of a list that is sorted by `name`, and its `next`; None where nothing follows."""
    if after is not None:
        place = place_of(after)
        items = [item for item in items if name(item) > place]
    page = list(items[:limit])
    return page, cursor(name(page[-1])) if len(items) > limit else None
