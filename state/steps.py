"""The named steps of a checkpoint, of publishing and of recovery, where a test may let a fault strike.

Code that comes to a step says so with `reached`. That does nothing unless the environment variable `OSTINATO_FAULT` is
set, which only tests do::

    OSTINATO_FAULT="STEP[:NTH][@PROCESS]=ACTION[,...]"

STEP is one of `STEPS`; NTH says which time the step is reached in a process that the rule is for (1, the first, unless
said). PROCESS is `supervisor`, `worker` (any) or `worker-2`; every process unless said. ACTION is one of

- `kill`, `stop`: this process gets SIGKILL or SIGSTOP;
- `kill-parent`: the process that started this one gets SIGKILL, which is how a supervisor dies at a worker's step;
- `kill-child`: the first child process gets SIGKILL, which is how a worker dies at a supervisor's step;
- `raise`: `InjectedFaultError`, as from a store that cannot be reached;
- `sleep SECONDS`.

With `OSTINATO_FAULT_MARKER=PATH` each rule strikes once in the life of all processes that are told the same path:
whoever makes the file PATH.N first (N: position of the rule, from 0), strikes. Restarted processes find it and go by.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ostinato.state.errors import StoreError

VARIABLE = "OSTINATO_FAULT"
MARKER_VARIABLE = "OSTINATO_FAULT_MARKER"

SUPERVISOR = "supervisor"
WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Step:
    """`role`: which process of a job with workers comes here; `store`: the one kind of store that has it."""

    role: str
    meaning: str
    store: str = ""


STEPS: Final[Mapping[str, Step]] = {
    # a checkpoint, as the coordinator sees it
    "checkpoint.begin": Step(SUPERVISOR, "a checkpoint is due; no barrier is under way"),
    "checkpoint.barrier": Step(SUPERVISOR, "the barrier stands in the sequence of entries"),
    "checkpoint.ack": Step(SUPERVISOR, "one worker's pieces have been reported"),
    "checkpoint.prepared": Step(SUPERVISOR, "the sinks' pending output is durable, none of it is published"),
    "checkpoint.commit": Step(SUPERVISOR, "everything is there; the manifest is about to be given to the store"),
    "manifest.written": Step(SUPERVISOR, "the manifest is durable under a passing name", store="directory"),
    "checkpoint.committed": Step(SUPERVISOR, "the checkpoint is durable; no sink knows of it"),
    # output, as one sink sees it
    "sink.prepare": Step(SUPERVISOR, "a sink is about to make its pending output durable"),
    "sink.prepared": Step(SUPERVISOR, "a sink's pending output is durable; the coordinator does not know"),
    "sink.publish": Step(SUPERVISOR, "a sink is about to publish"),
    "sink.publishing": Step(SUPERVISOR, "a sink has published half of it, which need not be durable"),
    "sink.published": Step(SUPERVISOR, "a sink's output is durable under its name, its pending files are gone"),
    "sink.recovered": Step(SUPERVISOR, "a sink has taken back what came after the checkpoint"),
    # publishing
    "publish.file": Step(SUPERVISOR, "one file of a sink has its final name or length, others may not"),
    "publish.end": Step(SUPERVISOR, "all sinks have published what belongs to the checkpoint"),
    # retention
    "retain.manifest": Step(SUPERVISOR, "an old checkpoint's manifest is gone, its blobs are still there"),
    "retain.end": Step(SUPERVISOR, "what is not retained any more is deleted"),
    # a checkpoint, as a worker sees it
    "snapshot.barrier": Step(WORKER, "the barrier has come; the operators have not been asked"),
    "snapshot.taken": Step(WORKER, "the operators have given their state; nothing is written"),
    "blob.written": Step(
        WORKER, "the blob is in the store: under a passing name, or its last slice not yet proven durable"
    ),
    "snapshot.durable": Step(WORKER, "the blob is durable; the coordinator does not know"),
    "snapshot.reported": Step(WORKER, "the coordinator has been sent the pieces"),
    # recovery, as the supervisor sees it
    "restart.begin": Step(SUPERVISOR, "a worker's failure has been noticed; the other workers still run"),
    "restart.ended": Step(SUPERVISOR, "no worker runs any more; none has been started again"),
    "restore.manifest": Step(SUPERVISOR, "a checkpoint has been chosen and its manifest read"),
    "restore.sinks": Step(SUPERVISOR, "the sinks have taken back what came after the checkpoint"),
    "restore.sources": Step(SUPERVISOR, "the sources stand where the checkpoint has them"),
    "restore.done": Step(SUPERVISOR, "all workers have their state; no entry has been dealt"),
    # recovery, as a worker sees it
    "restore.begin": Step(WORKER, "the worker is about to read its pieces"),
    "restore.group": Step(WORKER, "one key group has been read"),
    "restore.end": Step(WORKER, "the worker has its state; the supervisor does not know"),
    # whoever becomes the owner of a store
    "store.claimed": Step(SUPERVISOR, "a directory has a new owner, who has not read it", store="directory"),
    # a transaction with Kafka, as whoever works on the partition sees it
    "txn.fence": Step(WORKER, "a partition is ours; its producer has not been begun"),
    "txn.fenced": Step(WORKER, "earlier producers are fenced off; the committed offset has not been read"),
    "txn.position": Step(WORKER, "the committed offset and its snapshot's name are known; no state has been read"),
    "txn.restored": Step(WORKER, "the state is there; nothing has been read from the topic"),
    "txn.cut": Step(WORKER, "the partition is cut; nothing of the snapshot is written, records are on their way"),
    "txn.snapshot": Step(WORKER, "the snapshot is durable; no transaction names it"),
    "txn.drained": Step(WORKER, "every record is acknowledged and the snapshot durable"),
    "txn.offsets": Step(WORKER, "the offsets are about to be put into the transaction"),
    "txn.commit": Step(WORKER, "the transaction has everything; it is about to be committed"),
    "txn.committed": Step(WORKER, "the transaction is committed; older snapshots are still there"),
    "txn.tidied": Step(WORKER, "older snapshots are deleted"),
    "txn.revoked": Step(WORKER, "partitions are about to be given up; what was begun is committed"),
    # the journal of a server
    "journal.append": Step(SUPERVISOR, "a group of appends is taken; nothing of it is written"),
    "journal.synced": Step(SUPERVISOR, "the group is durable; nobody has been told"),
    "journal.rolled": Step(SUPERVISOR, "another segment is begun; the index of the one before is not written"),
    "journal.cut": Step(SUPERVISOR, "a torn tail is found; it is about to be cut"),
    "journal.trimmed": Step(SUPERVISOR, "a segment is dropped; its index is still there"),
    # the server's log of matches, and what goes out of it
    "matches.append": Step(WORKER, "rows are numbered; nothing of them is in the log of matches"),
    "matches.synced": Step(WORKER, "all rows so far are durable, and so is the mark that says it"),
    "output.sent": Step(SUPERVISOR, "an output's target has the matches; its cursor stands before them"),
    "output.synced": Step(SUPERVISOR, "lines are durable in an output's file; nothing says how long it is with them"),
    "output.moved": Step(SUPERVISOR, "an output's cursor stands behind what its target has"),
    # the server's live patterns
    "live.step": Step(WORKER, "a record of the journal is about to be dealt with"),
    "live.synced": Step(WORKER, "all rows up to a snapshot are durable; the snapshot is not written"),
    "live.snapshot": Step(WORKER, "a snapshot is durable; older ones are still there"),
    "change.begun": Step(SUPERVISOR, "a change is in the catalog; the journal does not have it"),
    "change.appended": Step(SUPERVISOR, "the journal has a change; the catalog does not say so"),
    "change.completed": Step(SUPERVISOR, "a change has been made; nobody has been told"),
    # the end of a job
    "finish.begin": Step(SUPERVISOR, "the input has ended; the last checkpoint has not begun"),
    "finish.published": Step(SUPERVISOR, "the last checkpoint's output is published; the checkpoints are still there"),
    "finish.deleted": Step(SUPERVISOR, "the checkpoints of the ended job are deleted"),
}
"""All there are. A name that is not here is an error, in code as in the variable."""


class InjectedFaultError(StoreError):
    """A test asked for an error at this step."""


@dataclass(slots=True)
class _Rule:
    number: int
    step: str
    nth: int
    process: str
    action: str
    seconds: float = 0.0
    reached: int = field(default=0)

    def is_for(self, process: str) -> bool:
        return self.process in ("", process) or (self.process == WORKER and process.startswith(f"{WORKER}-"))


_RULE = re.compile(
    r"(?P<step>[a-z.]+)(?::(?P<nth>[1-9]\d*))?(?:@(?P<process>supervisor|worker(?:-\d+)?))?="
    r"(?P<action>kill|stop|kill-parent|kill-child|raise|sleep (?P<seconds>\d+(?:\.\d+)?))"
)


def _parse(text: str) -> list[_Rule]:
    """The rules of the variable.

    >>> [rule.step for rule in _parse("publish.file:2@supervisor=kill,blob.written=sleep 0.5")]
    ['publish.file', 'blob.written']
    """
    rules = []
    for number, part in enumerate(text.split(",")):
        match = _RULE.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"{VARIABLE}: cannot read {part!r}; write STEP[:NTH][@PROCESS]=ACTION, PROCESS supervisor, worker or "
                "worker-N, ACTION kill, stop, kill-parent, kill-child, raise or sleep SECONDS"
            )
        _check(match["step"])
        action = match["action"].split()[0]
        seconds = float(match["seconds"] or 0)
        rules.append(_Rule(number, match["step"], int(match["nth"] or 1), match["process"] or "", action, seconds))
    return rules


def _check(step: str) -> None:
    if step not in STEPS:
        raise ValueError(f"there is no step {step!r}; ostinato.state.steps.STEPS has them all: {', '.join(STEPS)}")


_rules: list[_Rule] = _parse(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else []
_process = SUPERVISOR
_lock = threading.Lock()


def become_worker(number: int) -> None:
    """Say which process this is; one that says nothing is a supervisor."""
    global _process
    _process = f"{WORKER}-{number}"


def reached(step: str) -> None:
    """Say that the process has come to a step, from any thread. May not return, where a test wants it so.

    Raises:
        InjectedFaultError: a test asked for it.
        ValueError: there is no such step.
    """
    _check(step)
    for rule in _rules:
        if rule.step == step and rule.is_for(_process) and _is_due(rule):
            _strike(rule)


def _is_due(rule: _Rule) -> bool:
    with _lock:
        rule.reached += 1
        if rule.reached != rule.nth:
            return False
    marker = os.environ.get(MARKER_VARIABLE)
    if not marker:
        return True
    try:
        with Path(f"{marker}.{rule.number}").open("x") as file:
            file.write(f"{rule.step} {_process} {os.getpid()}\n")
    except FileExistsError:
        return False
    return True


def _strike(rule: _Rule) -> None:
    match rule.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "kill-parent":
            os.kill(os.getppid(), signal.SIGKILL)
        case "kill-child":
            os.kill(_first_child(), signal.SIGKILL)
        case "raise":
            raise InjectedFaultError(f"injected at step {rule.step}, as {VARIABLE} asks for")
        case "sleep":
            time.sleep(rule.seconds)


def _first_child() -> int:
    """The oldest child process that lives. Linux only, as is all that the fault tests do."""
    own = os.getpid()
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # the name in brackets may contain anything; state and parent come behind it
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            except OSError:
                continue
            if int(parent) == own and state != "Z":
                children.append(int(entry.name))
    if not children:
        raise InjectedFaultError(f"kill-child: process {own} has no child process")
    return min(children)
