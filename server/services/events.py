"""Events that come in by HTTP and WebSocket; see `ostinato.server.http.services.EventService`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from ostinato.server.catalog.definitions import Body
from ostinato.server.changes.texts import stream_in
from ostinato.server.failures import (
    Flaw,
    MalformedError,
    NotReadyError,
    NotThereError,
    RefusedError,
    TooLargeError,
    TooManyError,
)
from ostinato.server.http.schemas.streams import EventsReceipt
from ostinato.server.ingest.bodies import BodyError, lines_of
from ostinato.server.ingest.dead_letters import DeadLetters
from ostinato.server.ingest.gate import Bad, Checked, Gate
from ostinato.server.journal import Journal, JournalBusyError, JournalError, JournalFullError

if TYPE_CHECKING:
    from ostinato.server.http.caller import Caller

T = TypeVar("T")

_SMALL_BYTES: Final = 16 << 10
"""Bodies up to this size are checked at once: to hand them to a thread would take longer."""
_SHOWN: Final = 20
_FORMS: Final[Mapping[str, Literal["json", "ndjson"]]] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
}


class Events:
    """From a body to the journal."""

    def __init__(self, journal: Journal, dead_letters: DeadLetters, *, max_bytes: int) -> None:
        """`max_bytes`: of a body once it is decompressed."""
        self._journal = journal
        self._dead_letters = dead_letters
        self._max_bytes = max_bytes
        self._gates: dict[str, tuple[str, Gate]] = {}

    def use(self, body: Body) -> None:
        """Streams are declared like this from now on."""
        streams = body.definitions.streams
        self._gates = {
            name: held
            if (held := self._gates.get(name)) is not None and held[0] == stream.text
            else (stream.text, Gate(stream_in(stream.text)))
            for name, stream in streams.items()
        }

    async def append(
        self,
        stream: str,
        body: bytes,
        *,
        content_type: Literal["application/json", "application/x-ndjson"],
        encoding: Literal["", "gzip"],
        key: str | None,
        bad: Literal["refuse", "dead-letter"],
        caller: Caller,  # noqa: ARG002 - limits are the routes' business
    ) -> EventsReceipt:
        held = self._gates.get(stream)
        if held is None:
            raise NotThereError(f"there is no stream `{stream}`; declare it with PUT /v1/streams/{stream}")
        if len(body) <= _SMALL_BYTES and not encoding:
            checked = self._check(held[1], body, _FORMS[content_type], encoding)
        else:
            checked = await asyncio.to_thread(self._check, held[1], body, _FORMS[content_type], encoding)
        if checked.bad:
            if bad == "refuse":
                raise _refused(stream, checked)
            await self._guard(self._dead_letters.add(stream, checked.bad, None if key is None else key.encode()))
        if not checked.rows:
            position = self._journal.durable
            return EventsReceipt(stream, 0, len(checked.bad), position, position, False)
        appended = await self._guard(
            self._journal.append_async(stream, checked.data, checked.rows, key=None if key is None else key.encode())
        )
        if appended.differs:
            raise RefusedError(
                f"the Idempotency-Key {key!r} has come before with other events; those were taken, these were not"
            )
        return EventsReceipt(
            stream, appended.rows, len(checked.bad), appended.position, appended.next, appended.duplicate
        )

    async def _guard(self, appending: Awaitable[T]) -> T:
        """The journal's errors in the words of services."""
        try:
            return await appending
        except JournalFullError as error:
            raise NotReadyError(str(error), 5.0) from error
        except JournalBusyError as error:
            raise TooManyError(str(error)) from error
        except JournalError as error:
            raise NotReadyError(str(error)) from error

    def _check(self, gate: Gate, body: bytes, form: Literal["json", "ndjson"], encoding: str) -> Checked:
        try:
            lines = lines_of(body, form, encoding=encoding or None, max_bytes=self._max_bytes)
        except BodyError as error:
            failure = TooLargeError if error.status == 413 else MalformedError
            where = [Flaw(str(error), line=error.line)] if error.line else []
            raise failure(str(error), where) from error
        return gate.check(lines)


def _refused(stream: str, checked: Checked) -> RefusedError:
    flaws = [_flaw(each) for each in checked.bad[:_SHOWN]]
    total = checked.rows + len(checked.bad)
    more = f" (the first {_SHOWN} are listed)" if len(checked.bad) > _SHOWN else ""
    return RefusedError(
        f"{len(checked.bad)} of {total} events do not fit stream `{stream}`{more}; none was taken. Mend them, or send "
        "them with ?bad=dead-letter to have the others taken",
        flaws,
    )


def _flaw(bad: Bad) -> Flaw:
    return Flaw(bad.reason, path=f"$[{bad.line - 1}]", line=bad.line)
