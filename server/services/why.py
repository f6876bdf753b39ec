"""An explanation of a key, in the words of the API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ostinato.patterns.literals import format_duration, format_timestamp
from ostinato.server.http.schemas import patterns as schemas


def explained(
    name: str,
    version: int,
    state: schemas.State,
    key: list[Any],
    found: Mapping[str, Any],
    older: Mapping[int, Mapping[str, Any]],
) -> schemas.Why:
    """`found`: what the live worker says, see `ostinato.server.live.questions`; `older`: of versions that drain."""
    said, stream = found["explanation"], found["streams"].get(found["stream"], {})
    column = found["time_column"]
    partials = [_partial(partial, column) for partial in said["partial_matches"]]
    for number, each in older.items():
        partials += [_partial(partial, column, number) for partial in each["explanation"]["partial_matches"]]
    return schemas.Why(
        name,
        version,
        key,
        state,
        said["total"] + sum(each["explanation"]["total"] for each in older.values()),
        partials,
        [_event(event) for event in said["events"]],
        schemas.WhyWatermark(said["watermark"], _holding(stream), said["waiting"]),
        list(_notes(found["stream"], stream, said, len(partials))),
    )


def not_running(name: str, version: int, state: schemas.State, key: list[Any], error: str) -> schemas.Why:
    """Of a pattern that does not run."""
    note = f"the pattern is {state}, so that nothing matches; resume it"
    notes = [note, error] if error else [note]
    return schemas.Why(name, version, key, state, 0, [], [], schemas.WhyWatermark(None, []), notes)


def _partial(partial: Mapping[str, Any], time_column: str | None, version: int | None = None) -> schemas.WhyPartial:
    by_stage: dict[str, list[dict[str, Any]]] = {stage: [] for stage in partial["taken"]}
    for event in partial["events"]:
        when = {} if time_column is None else {time_column: event["time"]}
        by_stage.setdefault(event["stage"], []).append({**when, **event["columns"]})
    waits = list(partial["awaits"])
    if partial["completes_at_deadline"]:
        forbidden = " or ".join(partial["forbids"])
        waits.append(f"its time, without {forbidden}" if forbidden else "its time")
    return schemas.WhyPartial(
        partial["began"],
        partial["deadline"],
        [schemas.WhyTaken(stage, events, partial["taken"].get(stage, 0)) for stage, events in by_stage.items()],
        waits,
        partial["kind"],
        partial["last_event"],
        version,
    )


def _event(event: Mapping[str, Any]) -> schemas.WhyEvent:
    verdicts: Sequence[Mapping[str, Any]] = event["conditions"]
    if event["waiting"]:
        outcome = "it waits: the watermark has not come to it"
    else:
        fits = dict.fromkeys(each["stage"] for each in verdicts if each["role"] == "take" and each["holds"])
        outcome = f"it fits {' and '.join(fits)}" if fits else "it fits nothing that is awaited"
    unique = {(each.element, each.text): each for verdict in verdicts for each in _conditions(verdict)}
    return schemas.WhyEvent(event["time"], dict(event["columns"]), outcome, list(unique.values()))


def _conditions(verdict: Mapping[str, Any]) -> Iterator[schemas.WhyCondition]:
    """The parts that failed; where the condition holds, the whole of it."""
    stage = verdict["stage"]
    if verdict["role"] != "take":
        stage = f"{stage} ({verdict['role']})"
    if verdict["holds"] or not verdict["failed"]:
        yield schemas.WhyCondition(stage, verdict["text"] or "true", verdict["holds"])
    for part in verdict["failed"]:
        error = part["error"]
        text = part["text"] if error is None else f"{part['text']} ({error})"
        yield schemas.WhyCondition(stage, text, part["holds"], dict(part["values"]))


def _holding(stream: Mapping[str, Any]) -> list[str]:
    """The lanes that are furthest behind of those that count; none where there is only one."""
    lanes = stream.get("lanes", {})
    awake = {lane: at["max_time"] for lane, at in lanes.items() if not at["idle"] and at["max_time"] is not None}
    if len(awake) < 2:
        return []
    least = min(awake.values())
    return [lane or "http" for lane, at in awake.items() if at == least and at < max(awake.values())]


def _notes(name: str, stream: Mapping[str, Any], said: Mapping[str, Any], partials: int) -> Iterator[str]:
    watermark = said["watermark"]
    if watermark is None:
        yield f"time has not begun: no event of stream {name} has been released by the watermark yet"
    if said["waiting"]:
        idle = stream.get("idle_ms", 0)
        moves = f", or when nothing has come for {format_duration(idle)}" if idle else ""
        latest = max((at["max_time"] for at in stream.get("lanes", {}).values() if at["max_time"]), default=None)
        at = "" if latest is None else f"; the latest event is of {format_timestamp(latest)}"
        yield (
            f"{said['waiting']} events of the key wait for the watermark{at}. It moves on with events more than "
            f"{format_duration(stream.get('delay_ms', 0))} later{moves}"
        )
    if not partials and not said["events"] and not said["waiting"]:
        yield "nothing is known of this key: no event of it has come lately, or it is written otherwise"
    elif not partials and said["begins_with"]:
        yield f"no match is under way; one begins with {' or '.join(said['begins_with'])}"
    if said["draining"]:
        yield "this version drains: it begins no match any more"
    if said["at_cap"]:
        yield f"the key has {said['cap']} partial matches, which is its cap"
    if said["dropped"]:
        yield f"{said['dropped']} partial matches of the pattern fell to its cap so far, of all keys"
    if stream.get("late"):
        yield f"{stream['late']} events of stream {name} came too late, and were set aside (matches of kind `late`)"
    counted = said["counted"]
    if counted is not None:
        held = ", ".join(f"{count} in {state}" for state, count in counted["partial_matches"].items()) or "none"
        window = f" among {counted['window_events']} events in its window" if counted["window_events"] else ""
        yield f"its matches are counted, not enumerated; partial matches: {held}{window}"
