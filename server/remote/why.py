"""Why a key has matched or not, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ostinato.server.http.schemas.patterns import Why, WhyCondition, WhyEvent, WhyPartial
from ostinato.server.remote import shown

_RESULTS: Mapping[bool | None, str] = {True: "true", False: "false", None: "NULL"}


def why_lines(why: Why) -> Iterator[str]:
    """The explanation."""
    key = ", ".join(shown.value_text(value) for value in why.key)
    state = "" if why.state == "live" else f", {why.state}"
    yield f"{why.pattern} (version {why.version}{state})" + (f", key {key}" if key else "")
    yield ""
    more = f", {len(why.partial_matches)} of them shown" if why.total > len(why.partial_matches) else ""
    yield f"partial matches: {why.total:,}{more}"
    for number, partial in enumerate(why.partial_matches, 1):
        yield from _partial(number, partial, why.version)
    yield ""
    yield f"last events: {len(why.events)}" + (", the newest last" if len(why.events) > 1 else "")
    for event in why.events:
        yield from _event(event)
    yield ""
    yield from _watermark(why)
    for note in why.notes:
        yield f"note: {note}"


def _partial(number: int, partial: WhyPartial, version: int) -> Iterator[str]:
    until = f", until {shown.event_time(partial.expires_ms)}" if partial.expires_ms is not None else ""
    other = f", version {partial.version}" if partial.version not in (None, version) else ""
    yield f"  {number}. since {shown.event_time(partial.began_ms)}{until}{other}"
    for taken in partial.taken:
        events = taken.events
        times = f"{len(events)} event{'s' * (len(events) != 1)}"
        yield f"     {taken.element}: {times}" + (f", the last {fields(events[-1])}" if events else "")
    if partial.waits_for:
        yield f"     waits for {', or '.join(partial.waits_for)}"


def _event(event: WhyEvent) -> Iterator[str]:
    yield f"  {shown.event_time(event.time_ms)}  {fields(event.event)}"
    yield f"     {event.outcome}"
    for condition in event.conditions:
        yield f"     {_condition(condition)}"


def _condition(condition: WhyCondition) -> str:
    values = f"  ({fields(condition.values)})" if condition.values else ""
    return f"{condition.element}: {condition.text} is {_RESULTS[condition.result]}{values}"


def _watermark(why: Why) -> Iterator[str]:
    watermark = why.watermark
    at = shown.event_time(watermark.watermark_ms) or "none yet: no event has come"
    yield f"watermark: {at}"
    if watermark.waiting_events:
        waiting = watermark.waiting_events
        yield f"  {waiting:,} event{'s wait' if waiting != 1 else ' waits'} for it"
    for lane in watermark.held_back_by:
        yield f"  held back by {lane or 'what comes by HTTP'}"


def fields(values: Mapping[str, Any]) -> str:
    """``user=eve status=FAILED``."""
    return " ".join(f"{name}={shown.value_text(value)}" for name, value in values.items())
