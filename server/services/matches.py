"""The match log and those who follow it; see `ostinato.server.http.services.MatchService`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final, Literal, cast

import msgspec

from ostinato.server.delivery.encoding import SSE, WEBSOCKET, match_json
from ostinato.server.delivery.hub import Hub
from ostinato.server.failures import NotReadyError
from ostinato.server.http.pages import cursor, number_of
from ostinato.server.http.schemas import matches as schemas
from ostinato.server.ingest.dead_letters import DEAD_LETTERS
from ostinato.server.matches import Filter, Match, MatchesGoneError, MatchLogError, MatchLogReader

_PAGE_BYTES: Final = 8 << 20


class Matches:
    """Over the log's reader and the hub."""

    def __init__(self, folder: Path, server: str, hub: Hub, *, most_followers: int) -> None:
        """`most_followers`: more are refused."""
        self._reader = MatchLogReader(folder)
        self._server = server
        self._hub = hub
        self._most = most_followers

    def close(self) -> None:
        self._reader.close()

    async def page(self, query: schemas.MatchesQuery) -> schemas.MatchPage:
        wanted = _filter(query.stream, query.pattern, query.kind)
        return await asyncio.to_thread(self._page, query.after, query.limit, wanted)

    def _page(self, after: int, limit: int, wanted: Filter) -> schemas.MatchPage:
        try:
            first, last = self._reader.first_seq, self._reader.last_seq
            after = max(after, first - 1)  # what retention has deleted is not there; `first_seq` says so
            found = self._reader.scan(after, limit, wanted, max_bytes=_PAGE_BYTES)
        except MatchesGoneError as error:
            raise NotReadyError("the oldest matches are being deleted just now; ask again") from error
        except MatchLogError as error:
            raise NotReadyError(str(error)) from error
        # as they are encoded for everybody; nobody looks into them here
        items = [msgspec.Raw(match_json(self._server, match)) for match in found.matches]
        return schemas.MatchPage(cast("list[schemas.MatchInfo]", items), str(found.behind), first, last)

    async def dead_letters(self, query: schemas.DeadLettersQuery) -> schemas.DeadLetterPage:
        return await asyncio.to_thread(self._dead_letters, query)

    def _dead_letters(self, query: schemas.DeadLettersQuery) -> schemas.DeadLetterPage:
        wanted = Filter(streams=frozenset([DEAD_LETTERS]))
        items: list[schemas.DeadLetter] = []
        after = number_of(query.after) or 0
        try:
            after = max(after, self._reader.first_seq - 1)
            while len(items) < query.limit:
                found = self._reader.scan(after, query.limit, wanted, max_bytes=_PAGE_BYTES)
                for match in found.matches:
                    letter = msgspec.json.decode(match.value)
                    after = match.seq
                    if query.stream is None or letter["stream"] == query.stream:
                        items.append(_dead_letter(match, letter))
                        if len(items) == query.limit:
                            return schemas.DeadLetterPage(items, cursor(str(after)))
                if found.behind <= after and not found.matches:
                    break
                after = max(after, found.behind)
        except MatchLogError as error:
            raise NotReadyError(str(error)) from error
        return schemas.DeadLetterPage(items, None)

    @asynccontextmanager
    async def follow(
        self, which: schemas.MatchFilter, framing: Literal["sse", "json"]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if self._hub.counts.followers >= self._most:
            raise NotReadyError(f"{self._most} clients follow the matches already (limits.sse_clients)", 5.0)
        after = None if which.after == -1 else which.after
        encoding = SSE if framing == "sse" else WEBSOCKET
        wanted = _filter(which.stream, which.pattern, which.kind)
        async with aclosing(self._hub.follow(wanted, after=after, encoding=encoding)) as frames:
            yield frames


def _dead_letter(match: Match, letter: dict[str, str]) -> schemas.DeadLetter:
    return schemas.DeadLetter(match.seq, letter["stream"], match.at_ms, match.position, letter["reason"], letter["row"])


def _filter(stream: str | None, pattern: str | None, kind: str | None) -> Filter:
    return Filter(
        frozenset() if stream is None else frozenset([stream]),
        frozenset() if pattern is None else frozenset([pattern]),
        frozenset() if kind is None else frozenset([kind]),
    )
