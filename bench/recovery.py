"""A job with very many open partial matches: what its checkpoints take, whole and of what has changed, and how long it
takes until it goes on after a SIGKILL."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import inputs
from inputs import BENCH
from jobs import Running
from measure import load, ostinato

_CHANGED_PART = 100
"""One user in so many has another event."""
_PROBES = 20
"""Users for whom one more event makes a match. A match is the sign that a job has begun to work."""


@dataclass(frozen=True)
class Recovery:
    """Of one store. Sizes in bytes, times in seconds.

    Attributes:
        partial_matches: that were open.
        whole_bytes: written by a checkpoint that holds all of them.
        whole_seconds: from its barrier until it was durable.
        changed_keys: that had another event since the checkpoint before.
        changed_bytes: written by the checkpoint after that.
        changed_seconds: as `whole_seconds`.
        fresh_seconds: from the start of a process to its first match, without state and with hardly any input.
        resumed_seconds: the same with ``--resume`` after a SIGKILL, the partial matches being restored before it.
        fresh_cpu_seconds, resumed_cpu_seconds: CPU seconds that this took.
        running_peak_bytes: of the job that was killed.
        resumed_peak_bytes: of those that went on.
    """

    store: str
    partial_matches: int
    whole_bytes: int
    whole_seconds: float
    changed_keys: int
    changed_bytes: int
    changed_seconds: float
    fresh_seconds: float
    resumed_seconds: float
    fresh_cpu_seconds: float
    resumed_cpu_seconds: float
    running_peak_bytes: int
    resumed_peak_bytes: int
    load: float

    @property
    def changed_ratio(self) -> float:
        """Bytes, of the whole."""
        return self.changed_bytes / self.whole_bytes


def recovery(store: str, address: list[str], folder: Path, repeats: int, *, users: int) -> Recovery:
    """Open partial matches of `users`, change some, kill the job, go on.

    Args:
        store: for the table.
        address: the options that say where checkpoints go.
        folder: for what is written.
        repeats: of the start after the kill.
        users: how many partial matches.
    """
    stream = folder / "logins.jsonl"
    shutil.copyfile(inputs.opened(users, _PROBES), stream)
    few = folder / "few.jsonl"
    few.write_bytes(inputs.opened(10, _PROBES).read_bytes() + _match_of(0))
    bare = [ostinato(), "run", str(BENCH / "p1_login.cep"), "--format", "json", "--input"]
    command = [*bare, str(stream), *address, "--interval", "1s", "--restart", "none"]
    name = f"bench-{users}"
    events = users + 3 * _PROBES + 1

    def completed_after(status: dict[str, Any], number: int) -> bool:
        return int(status["checkpoints"]["completed"]) > number

    with Running(command, folder, name) as job:
        inputs.note(f"{users:,} partial matches, checkpoints to {store} ...")
        opened = job.wait_for("the whole input", lambda status: status["events"] == events)[-1]
        # one may be under way whose barrier came earlier; then chains that have grown while all came are begun again
        before = opened["checkpoints"]["completed"]
        settled = job.wait_for(
            "a checkpoint without changes", lambda status: completed_after(status, before + 1) and _is_idle(status)
        )[-1]
        changed = users // _CHANGED_PART
        with stream.open("ab") as out:
            at = inputs.after_opening(0)
            out.write(
                b"".join(inputs.login(f"u{number * _CHANGED_PART}", at, failed=True) for number in range(changed))
                + inputs.login("clock", inputs.after_opening(1))
            )
        before = settled["checkpoints"]["completed"]
        events += changed + 1
        seen = job.wait_for(
            "the changes", lambda status: status["events"] == events and completed_after(status, before + 2)
        )
        changes = _largest(seen, settled["checkpoints"]["last"]["id"])
        # after a savepoint the next checkpoint is a whole one
        taken = job.savepoint()["id"]
        seen = job.wait_for("a whole checkpoint", lambda status: status["checkpoints"]["last"]["id"] > taken)
        whole = _largest(seen, taken)
        partial = seen[-1]["partial_matches"]
        running_peak = job.peak_bytes()
    fresh, resumed, peaks = [], [], []
    for number in range(repeats):
        with Running([*bare, str(few)], folder, name) as job:
            fresh.append(job.first_output())
        with stream.open("ab") as out:
            out.write(_match_of(number))
        with Running([*command, "--resume"], folder, name) as job:
            resumed.append(job.first_output())
            peaks.append(job.peak_bytes())
    fresh_s, fresh_cpu_s = (median(column) for column in zip(*fresh, strict=True))
    resumed_s, resumed_cpu_s = (median(column) for column in zip(*resumed, strict=True))
    return Recovery(
        store, partial, whole["bytes_written"], whole["seconds"], changed, changes["bytes_written"],
        changes["seconds"], fresh_s, resumed_s, fresh_cpu_s, resumed_cpu_s, running_peak, max(peaks), load(),
    )  # fmt: skip


def _is_idle(status: dict[str, Any]) -> bool:
    """Has the last checkpoint written little besides its manifest?"""
    last = status["checkpoints"]["last"]
    return int(last["bytes_written"]) * _CHANGED_PART < int(last["bytes_total"])


def _largest(seen: list[dict[str, Any]], after: int) -> dict[str, Any]:
    """Of the checkpoints with a larger id than `after`, the one that has written most."""
    checkpoints: list[dict[str, Any]] = [status["checkpoints"]["last"] for status in seen]
    return max((each for each in checkpoints if each["id"] > after), key=lambda each: int(each["bytes_written"]))


def _match_of(probe: int) -> bytes:
    """The event that completes a match, and one that lets time pass."""
    at = inputs.after_opening(2 + 2 * probe)
    return inputs.login(f"probe{probe}", at) + inputs.login("clock", inputs.after_opening(3 + 2 * probe))
