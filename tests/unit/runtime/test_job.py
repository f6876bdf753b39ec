"""Jobs in one process: cuts do not matter, snapshots carry on, streams feed streams."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import BadRecord, Chunk, Idle
from ostinato.cep.runtime.job import Definition, LocalJob
from ostinato.cep.runtime.outputs import Outputs, StrictError
from ostinato.cep.runtime.plan import plan
from ostinato.cep.runtime.stopping import Stop
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program
from tests.support import rows_of
from tests.unit.runtime.supervising import PROGRAM, START_MS, Given, login_lines


class Kept:
    """An outlet that keeps everything; it may ask the job to stop after some deliveries."""

    def __init__(self, stop: Stop | None = None, after: int = 0) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.bad: list[BadRecord] = []
        self._stop = stop
        self._left = after

    def deliver(self, batch: Batch) -> None:
        self.rows += [(batch.stream, row) for row in rows_of(batch)]

    def reject(self, records: Sequence[BadRecord]) -> None:
        self.bad += records

    def breathe(self, *, idle: bool) -> None:
        self._left -= 1
        if self._stop is not None and self._left == 0:
            self._stop.requested = True


def cut(lines: Sequence[bytes], sizes: Sequence[int]) -> list[Chunk]:
    chunks = []
    at = 0
    for size in sizes:
        if lines[at : at + size]:
            chunks.append(Chunk.of(b"".join(lines[at : at + size]), source="given", first_line=at + 1))
        at += size
    return chunks


def definition(text: str = PROGRAM, *, whole_rows: bool = False) -> Definition:
    return Definition(plan(check_program(parse_program(text))), whole_rows=whole_rows)


def run(chunks: Sequence[Chunk | Idle], text: str = PROGRAM, **options: Any) -> tuple[Kept, LocalJob]:
    kept = Kept()
    job = LocalJob(definition(text, **options), [Given(chunks)], kept, clock=lambda: START_MS)
    job.run(Stop())
    return kept, job


@pytest.mark.parametrize("seed", range(3))
def test_any_cut_of_the_input_gives_the_same_rows(seed: int) -> None:
    lines = login_lines(120)
    whole, _ = run(cut(lines, [len(lines)]))
    chance = random.Random(seed)
    pieces, _ = run(cut(lines, [chance.randint(1, 30) for _ in range(120)]))
    assert len(whole.rows) >= 10
    assert pieces.rows == whole.rows


def test_late_rows_are_whole_and_bear_the_stream_s_name() -> None:
    lines = [
        b'{"user":"a","ts":1700000010000,"status":"FAILED"}\n',
        b'{"user":"b","ts":1700000007999,"status":"SUCCESS"}\n',
    ]
    kept, job = run(cut(lines, [2]), whole_rows=True)
    assert kept.rows == [("logins.late", {"user": "b", "ts": 1700000007999, "status": "SUCCESS"})]
    assert (job.statistics.events, job.statistics.late) == (2, 1)


def test_a_row_of_the_far_future_is_a_dead_letter_with_its_bytes() -> None:
    lines = [
        b'{"user":"a","ts":1700000010000,"status":"FAILED"}\n',
        b"\n",
        b'{"user": "b", "ts":9999999999999, "status":"x"}\r\n',
        b'{"user":"c","ts":1700000011000,"status":"FAILED"}\n',
    ]
    kept, job = run(cut(lines, [4]))
    (bad,) = kept.bad
    assert bad.raw == b'{"user": "b", "ts":9999999999999, "status":"x"}'
    assert (bad.line, bad.offset) == (3, len(lines[0]) + 1)
    assert "future" in bad.reason
    assert (job.statistics.events, job.statistics.bad, job.statistics.late) == (2, 1, 0)


def test_processing_time_moves_on_while_nothing_comes() -> None:
    text = """
    stream pings (host string key, n bigint) from file 'x' (follow = true)
    pattern silent on pings match a !-> b define b as n > 0 within 100 ms emit host
    """
    text = text.replace("n bigint)", "n bigint, at timestamp(ms) time)")
    program = parse_program(text)
    checked = check_program(program)
    kept = Kept()
    moments = iter(range(START_MS, START_MS + 10_000, 40))
    laid_out = plan(checked)
    source = laid_out.sources[0]
    from dataclasses import replace

    processing = replace(laid_out, sources=(replace(source, time=replace(source.time, mode="processing")),))
    chunks: list[Chunk | Idle] = [Chunk.of(b'{"host":"h","n":0,"at":0}\n'), *(Idle() for _ in range(8))]
    stop = Stop()
    job = LocalJob(Definition(processing), [Given(chunks)], kept, clock=lambda: next(moments))
    seen_before_end = []
    kept.breathe = lambda *, idle: seen_before_end.append(len(kept.rows))  # type: ignore[method-assign]
    job.run(stop)
    assert seen_before_end[0] == 0
    assert seen_before_end[-2] == 1, "the match came before the end of the input"


def test_strict_ends_at_the_first_bad_record() -> None:
    outputs = Outputs({}, strict=True)
    job = LocalJob(definition(), [Given([Chunk.of(b"nonsense\n", source="f")])], outputs, clock=lambda: START_MS)
    with pytest.raises(StrictError, match="f:1: not JSON"):
        job.run(Stop())


def test_outputs_stop_at_their_limit() -> None:
    class Sink:
        rows = 0

        def write(self, batch: Batch) -> None:
            self.rows += len(batch)

        def flush(self) -> None: ...

        def close(self) -> None: ...

    stop, sink = Stop(), Sink()
    outputs = Outputs({"a": [sink]}, limit=5, stop=stop)
    for _ in range(3):
        outputs.deliver(Batch("a", np.zeros(2, np.int64), {}))
    outputs.deliver(Batch("unknown", np.zeros(2, np.int64), {}))
    assert (sink.rows, outputs.written, stop.requested) == (5, {"a": 5}, True)
