"""What is to be done about a job whose process has ended."""

from __future__ import annotations

import signal
from typing import Final, Literal, TypeAlias

import msgspec

from ostinato.server import exits
from ostinato.state.typed import decode_json

Verdict: TypeAlias = Literal["FINISHED", "STOPPED", "CANCELED", "FAILED", "again"]

_FINAL: Final = frozenset({exits.PROBLEMS, exits.USAGE, exits.STRICT})
"""The same would come of it again."""
_GAVE_UP: Final = frozenset({exits.INPUT, exits.OUTPUT, exits.FAILED, exits.STATE})
"""The process has tried again by itself, as often as its policy says, where it had begun at all."""


class Summary(msgspec.Struct, frozen=True):
    """What `ostinato run --json` writes at its end, as far as it matters here."""

    ended: str
    events: int = 0
    matches: int = 0


def summary_in(line: bytes) -> Summary | None:
    """The summary, where a line is it."""
    if not line.startswith(b'{"ended"'):
        return None
    try:
        return decode_json(line, Summary)
    except msgspec.MsgspecError:
        return None


def judge(code: int, summary: Summary | None, *, ran: bool, has_run: bool) -> Verdict:
    """What an exit code means for the job.

    Args:
        code: of the process; negative: the signal that killed it.
        summary: what it said at its end.
        ran: it got as far as running, this time.
        has_run: it did so in an earlier life.
    """
    if code == exits.OK:
        return "STOPPED" if summary is not None and summary.ended == "stopped with a savepoint" else "FINISHED"
    if code == exits.CANCELED:
        return "CANCELED"
    if code in _FINAL:
        return "FAILED"
    if code in _GAVE_UP:
        # What fails a start may pass (a broker that is not there yet), if the job has ever been seen to work. What
        # fails a run has been tried again by the process itself.
        return "again" if has_run and not ran else "FAILED"
    return "again"


def obituary(code: int, said: str) -> str:
    """Why it ended, in a line."""
    if code < 0:
        hint = "; out of memory?" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    if said:
        return said
    return exits.MEANINGS.get(code, f"ended with code {code}")
