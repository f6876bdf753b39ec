"""A request to the server as a value: built once, sent by the sync and by the async client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from ostinato.server.client.errors import BadAnswerError
from ostinato.state.typed import decode_json

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
I_co = TypeVar("I_co", covariant=True)

Value = str | int | float | bool | Sequence[str] | None
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
NDJSON = "application/x-ndjson"


class Page(Protocol[I_co]):
    """A part of a list; `next` is the place where the next part begins."""

    @property
    def items(self) -> Sequence[I_co]: ...

    @property
    def next(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One request, and what its answer is.

    Attributes:
        method, path, query, body, headers: of the request.
        answer: the type of the JSON in the answer; `bytes` as it is; None for nothing.
        repeatable: doing it twice is the same as doing it once, so it is tried again after a lost connection.
        also: further statuses that are answers and no problems.
        seconds: how long the answer may take, where that is not for the client to say; 0: for ever.
    """

    method: str
    path: str
    answer: Any
    query: Mapping[str, Value] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    also: tuple[int, ...] = ()
    seconds: float | None = None

    def pairs(self) -> list[tuple[str, str]]:
        """The query as it is written; what is None is left out."""
        found: list[tuple[str, str]] = []
        for name, value in self.query.items():
            if value is None:
                continue
            many = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            found += [(name, _written(each)) for each in many]
        return found

    def decode(self, body: bytes) -> T_co:
        """The answer.

        Raises:
            BadAnswerError: it is not what it should be.
        """
        if self.answer is None:
            return None  # type: ignore[return-value]
        if self.answer is bytes:
            return body  # type: ignore[return-value]
        try:
            decoded: T_co = decode_json(body, self.answer)
        except msgspec.DecodeError as error:
            raise BadAnswerError(
                f"{self.method} {self.path}: the answer is not what this release knows ({error}); "
                "are the client and the server of the same release?"
            ) from None
        return decoded


def path_of(*parts: str | int) -> str:
    """A path under /v1; names are quoted.

    >>> path_of("patterns", "a/b", "diff")
    '/v1/patterns/a%2Fb/diff'
    """
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def read(path: str, answer: type[T], **query: Value) -> Call[T]:
    """A GET."""
    return Call("GET", path, answer, query, repeatable=True)


def condition(if_match: str | None, *, absent: bool = False) -> dict[str, str]:
    """The headers of a change of something that has an ETag."""
    found = {}
    if if_match is not None:
        found["if-match"] = if_match if if_match == "*" else f'"{if_match}"'
    if absent:
        found["if-none-match"] = "*"
    return found


def next_page(call: Call[Page[T]], page: Page[T]) -> Call[Page[T]] | None:
    """The request of the page behind one; None where that was the last."""
    here = call.query.get("after")
    if page.next is None or (not page.items and str(here) == page.next):
        return None
    last = getattr(page, "last_seq", None)
    if last is not None and int(page.next) >= last:
        # a page of matches always says where to go on: more may come, but nothing is there yet
        return None
    return replace(call, query={**call.query, "after": page.next})


def _written(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
