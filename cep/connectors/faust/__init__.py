"""A pattern on a Faust stream, in the user's own agent.

::

    @app.agent(logins)
    async def find(stream):
        async for match in matches(stream, suspicious_login):
            await alerts.send(value=match)

The pattern runs on each partition of the topic by itself, so the topic has to be keyed by the pattern's key
(`stream.group_by` brings that about). Its state is in a table of the app: see `state_table`.

**At least once.** After a crash no match is lost: an event is acknowledged to Faust when Kafka has confirmed the state
that holds it, and state that knows of a match is written when what the agent had sent by then, through the app's
producer, was flushed. (Faust alone flushes before it commits, too, but commits also where a change of a table was not
taken by Kafka.) What can come twice are the matches since the last write of state: 20 ms ago where events are
few, 0.25 s where they keep coming (`write_seconds`). Each carries an `id` by which whoever takes them can tell. Events
that Faust delivers again are passed over where the state has them, so no event is counted twice, which Faust's tables
do not promise by themselves. What this rests on:

- ``producer_acks=-1`` (Faust's default), and topics that keep what was acknowledged.
- The agent sends with ``await topic.send(...)``. Faust only logs a message that Kafka did not take in the end (by
  default after 20 minutes); ``await (await topic.send(...))`` waits for it.
- Only one worker has a partition. Kafka cannot keep a worker from writing to the table that was out for longer than
  ``broker_session_timeout``, lost its partitions meanwhile, and goes on: Faust does not fence it.
- A match on which the agent raises is not given again, as an event would not be: Faust starts the agent again, which
  goes on with the next one.

It is no more with ``processing_guarantee='exactly_once'``, which this neither needs nor improves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from ostinato.cep.api import AnyPattern, Source
from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.faust.found import Counts, Found
from ostinato.cep.connectors.faust.pattern import prepare
from ostinato.cep.connectors.faust.session import WRITE_SECONDS, Callbacks, Session
from ostinato.cep.connectors.faust.table import StateTable

__all__ = ["Counts", "Found", "Matches", "matches", "state_table"]

logger = logging.getLogger("ostinato.faust")

_ASK_SECONDS = 0.7
"""Faust takes no more tables about a second after the agents have begun."""
_SESSIONS = "_ostinato_sessions"


class Matches:
    """Matches to iterate over.

    Attributes:
        counts: what has happened so far in this worker.
    """

    def __init__(self, session: Session, make_table: Callable[[], Any]) -> None:
        self._session = session
        self._make_table = make_table

    @property
    def counts(self) -> Counts:
        return self._session.counts

    async def __aiter__(self) -> AsyncIterator[Found]:
        if self._session.table is None:
            self._session.table = StateTable(await self._make_table())
        async for found in self._session.results():
            yield found


def matches(
    stream: Any,
    pattern: AnyPattern,
    *,
    on: Source | None = None,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    table: Any = None,
    on_timeout: Callable[[Found], Any] | None = None,
    on_late: Callable[[Any], Any] | None = None,
    on_bad: Callable[[Any, str], Any] | None = None,
    write_seconds: float = WRITE_SECONDS,
    allow_dropped_state: bool = False,
) -> Matches:
    """The matches of a pattern in a Faust stream, as `Found`, which is a dict.

    Args:
        stream: of an agent, over one topic. Values are dicts, `faust.Record`s, msgspec Structs, dataclasses, or JSON as
            bytes or text, and are read by the rules for JSON.
        pattern: a decorated function, a pattern of the builder, or the text of a ``.cep`` file. Where its events come
            from, and where matches go, is not looked at.
        on: the stream that a pattern of the builder reads.
        name: which pattern, where the text has several.
        params: values of the text's parameters.
        table: where the state is; by default one that is made as the agent begins, with the partitions of the topic.
        on_timeout: is called with each partial match whose time has run out, of a pattern that says ``timeouts into``.
        on_late: is called with the value of each event behind the watermark; they are counted in any case.
        on_bad: is called with each value that does not fit the stream, and why; by default that is logged.
        write_seconds: how often state is written while events keep coming.
        allow_dropped_state: partial matches that a changed pattern cannot go on with are dropped; otherwise the app
            ends with what would be.

    The callbacks may be coroutine functions; they are called in order, between matches.

    Raises:
        PatternError: the pattern is wrong.
        ConnectorError: it cannot be run on this stream, or in this app.
    """
    ready = prepare(pattern, on, params, name)
    _check(stream, ready.name)
    sessions = stream.__dict__.setdefault(_SESSIONS, {})
    session = sessions.get(ready.name)
    if session is None:
        callbacks = Callbacks(on_timeout, on_late, on_bad)
        session = sessions[ready.name] = Session(
            stream, ready, callbacks, may_drop=allow_dropped_state, write_seconds=write_seconds
        )

    async def make_table() -> Any:
        return table if table is not None else await _table_for(stream, ready.name)

    return Matches(session, make_table)


def state_table(app: Any, name: str, *, partitions: int | None = None, **options: Any) -> Any:
    """A table for the state of the pattern `name`: ``ostinato-NAME``, by bytes.

    It is made by `matches` where it is not made before. Make it at the top of the module to say more of it, or where
    the agent does other things first. `partitions` must be those of the topic (Faust's ``topic_partitions`` by
    default); `options` are further arguments of ``app.Table``, such as ``store="rocksdb://"``.
    """
    known = app.tables.get(f"ostinato-{name}")
    if known is not None:
        return known
    options.setdefault("help", f"Partial matches of the pattern {name}.")
    return app.Table(f"ostinato-{name}", key_type=bytes, value_type=bytes, partitions=partitions, **options)


def _check(stream: Any, name: str) -> None:
    """Raises ConnectorError."""
    settings = stream.app.conf
    wrong = None
    if stream.concurrency_index is not None:
        wrong = "an agent with concurrency deals the events of a partition to several; use more workers instead"
    elif settings.stream_publish_on_commit:
        wrong = "stream_publish_on_commit would send matches when their state is written already; leave it off"
    elif settings.producer_acks == 0:
        wrong = "producer_acks=0 leaves it open whether state was written; leave it at -1"
    elif settings.producer_threaded:
        wrong = "producer_threaded does not tell when state was written; leave it off"
    if wrong is not None:
        raise ConnectorError(f"pattern {name} on a Faust stream: {wrong}")


async def _table_for(stream: Any, name: str) -> Any:
    app, topic = stream.app, stream.channel
    known = app.tables.get(f"ostinato-{name}")
    if known is not None:
        return known
    if not app.conf.table_standby_replicas and not app.tables.changelog_topics:
        # Faust has chosen an assignor by now that knows nothing of tables
        raise ConnectorError(
            f"pattern {name}: with table_standby_replicas=0 Faust does not read a table back that is made so late; "
            f"make it at the top of the module: state_table(app, {name!r}, partitions=...)"
        )
    try:
        topic_name = topic.get_topic_name()
    except (AttributeError, ValueError, TypeError) as error:
        raise ConnectorError(f"pattern {name}: its stream is not over one topic: {topic}") from error
    partitions = topic.partitions
    try:
        partitions = len(await asyncio.wait_for(app.producer._producer.partitions_for(topic_name), _ASK_SECONDS))
    except TimeoutError:
        logger.warning("topic %s is not known to Kafka yet; it is taken to have %s partitions", topic_name, partitions)
    try:
        return state_table(app, name, partitions=partitions)
    except RuntimeError as error:
        raise ConnectorError(
            f"pattern {name}: Faust takes no more tables now: {error}. Call matches() before the agent does anything "
            f"else, or make its table at the top of the module: state_table(app, {name!r}, partitions={partitions})"
        ) from error
