"""The entry point of a backtest's process; `ostinato.server.backtest.service` starts it.

Argument: the server's process id. What to run comes on standard input (`BacktestSpec`, JSON), what is found goes to
standard output (`Said`, a JSON object a line). It only ever reads, and gives way to whatever else wants the processor.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Final

import msgspec

from ostinato.cep.runtime.memory import collect_less_often
from ostinato.cep.runtime.worker_main import die_with
from ostinato.server import exits
from ostinato.server.backtest.spec import BacktestSpec, Failure, Progress, Result, Said
from ostinato.state.typed import decode_json

if TYPE_CHECKING:
    from ostinato.server.live.generation import Generation
    from ostinato.server.live.outlet import RowLog

_NICE: Final = 10
_TELL_SECONDS: Final = 0.2


def main(arguments: list[str]) -> int:
    """Run to the end; returns the exit code."""
    (parent,) = arguments
    die_with(int(parent))
    os.nice(_NICE)
    collect_less_often()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec = decode_json(sys.stdin.buffer.read(), BacktestSpec)
    try:
        _say(_run(spec))
    except Exception as error:  # noqa: BLE001 - whatever it is, the server has to know
        if os.environ.get("OSTINATO_DEBUG"):
            traceback.print_exc()
        name = type(error).__name__
        is_plain = type(error).__module__.startswith("ostinato.")
        _say(Failure(str(error) if is_plain and str(error) else f"{name}: {error}"))
        return exits.FAILED
    return exits.OK


def _run(spec: BacktestSpec) -> Result:
    from ostinato.server.backtest.history import over_journal, over_sources, timer
    from ostinato.server.backtest.tally import Tally
    from ostinato.server.backtest.timeline import Timeline

    span = None if spec.from_ms is None or spec.to_ms is None else spec.to_ms - spec.from_ms
    live = frozenset[str]() if spec.live is None else frozenset(member.pattern for member in spec.live.members)
    tally = Tally(spec.patterns, live & frozenset(spec.patterns), Timeline(spec.bucket_ms, span))
    sides: list[tuple[Generation, RowLog]] = [(spec.here, tally.sides[0])]
    if spec.live is not None:
        sides.append((spec.live, tally.sides[1]))
    seconds, told_at = timer(), 0.0

    def told(part: float, events: int) -> None:
        nonlocal told_at
        tally.settle()
        now = time.monotonic()
        if now - told_at >= _TELL_SECONDS:
            told_at = now
            _say(Progress(round(part, 4), events, seconds()))

    run = over_sources if spec.journal is None else over_journal
    events = run(spec, sides, told)
    patterns = tally.finish()
    width = tally.bucket_ms
    return Result(events, seconds(), width, tally.late, tally.bad, patterns, tally.notes)


def _say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
