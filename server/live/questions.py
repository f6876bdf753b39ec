"""What can be asked of the live worker while it runs. Asking changes nothing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ostinato.cep.batch import MIN_TIME, Batch, concat_batches
from ostinato.cep.connectors.base import Chunk

if TYPE_CHECKING:
    from ostinato.cep.nfa.operator import MatchOperator
    from ostinato.cep.nfa.why import RecentEvent
    from ostinato.cep.runtime.pipeline import Pipeline
    from ostinato.patterns.typecheck import CheckedPattern
    from ostinato.server.live.worker import Worker

_CONTEXT: Final = 200
"""So many events of a key are looked at, so that those that are shown are judged by what came before them."""


def answer(worker: Worker, what: str, arguments: Mapping[str, Any]) -> Any:
    """Raises LookupError, ValueError where there is none."""
    question = _QUESTIONS.get(what)
    if question is None:
        raise ValueError(f"nobody knows how to answer {what!r}")
    return question(worker, arguments)


def _status(worker: Worker, _: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is counted."""
    engine = worker.engine
    place, pipeline = engine.place, engine.pipeline
    found: dict[str, Any] = {
        "position": place.position,
        "seq": engine.outlet.seq,
        "generation": place.generation,
        "uptime_seconds": time.monotonic() - worker.started,
        "unread": engine.unread,
        "streams": {},
        "patterns": {},
        "events": 0,
        "bad": 0,
        "late": 0,
        "busy_seconds": {},
        "latency": worker.latency.buckets(),
        "snapshots": worker.snapshots,
        "failed_snapshots": worker.failed_snapshots,
        "idle_seconds": worker.idle_seconds,
        "recovery_seconds": worker.recovery_seconds,
        "snapshot": None,
        "state_bytes": 0,
        "excluded": list(place.excluded),
    }
    if worker.last_snapshot is not None:
        said = worker.last_snapshot
        found["snapshot"] = {
            "id": said.id,
            "position": said.position,
            "seconds": said.seconds,
            "bytes": said.bytes,
            "at_ms": said.at_ms,
        }
    if pipeline is None:
        return found
    pipeline.count_patterns()
    statistics = pipeline.statistics
    found |= {"events": statistics.events, "bad": statistics.bad, "late": statistics.late}
    counting = {
        matcher.compiled.patterns[counter.number].pattern.name: len(counter.live_keys())
        for matcher in pipeline.matchers.values()
        for counter in matcher.parts.counters
    }
    found["patterns"] = {
        name: {
            "matches": numbers.matches,
            "timeouts": numbers.timeouts,
            "partial_matches": numbers.partial_matches,
            "dropped": numbers.dropped,
            "counting": counting.get(name, 0),
        }
        for name, numbers in statistics.patterns.items()
        if name in engine.runnable.checked
    }
    found["streams"] = _streams(worker, pipeline)
    found["busy_seconds"] = {name: round(meter.seconds, 6) for name, meter in pipeline.busy.items()}
    found["state_bytes"] = sum(matcher.bytes_in_use for matcher in pipeline.matchers.values())
    return found


def _streams(worker: Worker, pipeline: Pipeline) -> dict[str, Any]:
    """Of each stream that is read: how far time has come, and what each lane says of it. Epoch ms; None: nothing."""
    engine = worker.engine
    found = {}
    for intake in pipeline.intakes:
        name, generator = intake.stream.name, intake.time
        matcher = pipeline.matchers.get(name)
        own = {}
        for lane, split in engine.place.lanes.get(name, {}).items():
            state = generator.split(split)
            if state is not None:
                own[lane] = {"max_time": _time(state[0]), "idle": state[1], "rows": engine.rows[name, lane]}
        found[name] = {
            "watermark": _time(generator.watermark),
            "delay_ms": generator.policy.delay_ms,
            "idle_ms": generator.policy.idle_ms,
            "mode": generator.policy.mode,
            "waiting": matcher.waiting if matcher is not None else 0,
            "keys": matcher.keys_known if matcher is not None else 0,
            "rows": sum(count for (stream, _), count in engine.rows.items() if stream == name),
            "late": engine.outlet.late[name],
            "dead_letters": engine.outlet.dead_letters[name],
            "lanes": own,
        }
    return found


def _time(moment: int) -> int | None:
    return None if moment <= MIN_TIME else moment


def _why(worker: Worker, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """See `ostinato.cep.nfa.why`."""
    from ostinato.cep.nfa.why import explain_key, parse_key

    name, wanted = arguments["name"], arguments["key"]
    operator, checked = _operator(worker, name)
    key = parse_key(checked.stream, wanted)
    stream = checked.stream.name
    shown = arguments["events"]
    recent = _recent(worker, stream, checked.stream.keys, wanted, max(shown, _CONTEXT) if shown else 0)
    explanation = explain_key(operator, name, key)
    if recent is not None:
        events = _as_they_came(checked, key, recent, shown, operator.watermark)
        explanation = dataclasses.replace(explanation, events=events)
    pipeline = worker.engine.pipeline
    assert pipeline is not None
    times = _streams(worker, pipeline)
    return {
        "explanation": explanation,
        "streams": times,
        "stream": stream,
        "time_column": checked.stream.time.column,
    }


def _as_they_came(
    checked: CheckedPattern, key: tuple[Any, ...], recent: Batch, shown: int, watermark: int
) -> tuple[RecentEvent, ...]:
    """What the conditions said of each event when it came: the pattern runs once more over what is known of the key."""
    from ostinato.cep.nfa.operator import MatchOperator
    from ostinato.cep.nfa.why import explain_key

    again = MatchOperator([checked])
    order = np.argsort(recent.time, kind="stable")
    found = []
    for place, row in enumerate(order.tolist()):
        event = recent.take(np.array([row]))
        time = int(event.time[0])
        if place >= len(order) - shown:
            (judged,) = explain_key(again, checked.pattern.name, key, event).events
            found.append(dataclasses.replace(judged, waiting=time > watermark))
        if time <= watermark:
            again.process(event)
            again.advance(time)
    return tuple(found)


def _recent(worker: Worker, stream: str, keys: tuple[str, ...], wanted: list[str | None], most: int) -> Batch | None:
    """The last events of a key, as far as they are kept, the newest last."""
    pipeline = worker.engine.pipeline
    intake = next((each for each in pipeline.intakes if each.stream.name == stream), None) if pipeline else None
    if intake is None or not most:
        return None
    found: list[Batch] = []
    count = 0
    needles = [text.encode() for text in wanted if text is not None and text.isalnum()]
    for entry in reversed(worker.engine.recent):
        if entry.stream != stream or not all(needle in entry.data for needle in needles):
            continue
        batch = intake.decode(Chunk.of(entry.data)).batch
        columns = [batch.columns[name].to_list() for name in keys]
        rows = [
            row
            for row, values in enumerate(zip(*columns, strict=True))
            if [None if value is None else _text(value) for value in values] == wanted
        ]
        if rows:
            found.append(batch.take(np.array(rows[-(most - count) :], np.int64)))
            count += len(found[-1])
        if count >= most:
            break
    return concat_batches(found[::-1]) if found else None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _graph(worker: Worker, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """How many partial matches there are in each state of a pattern."""
    from ostinato.cep.nfa.why import live_counts

    operator, _ = _operator(worker, arguments["name"])
    return dict(live_counts(operator).get(arguments["name"], {}))


def _operator(worker: Worker, name: str) -> tuple[MatchOperator, Any]:
    engine = worker.engine
    checked = engine.runnable.checked.get(name)
    if checked is None or engine.pipeline is None:
        raise LookupError(f"pattern `{name}` does not run at the moment")
    return engine.pipeline.matchers[checked.stream.name], checked


_QUESTIONS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {"status": _status, "why": _why, "graph": _graph}
