"""The options of `ostinato run` for jobs that survive: checkpoints, where to go on from, restarts, state backends."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from ostinato.server.options import DURATION, SIZE

if TYPE_CHECKING:
    from ostinato.cep.runtime.checkpoints import CheckpointOptions, Keep
    from ostinato.cep.runtime.job import StateBackend
    from ostinato.cep.runtime.supervised import Resume

F = TypeVar("F", bound=Callable[..., Any])

SECTION = "State that survives"
DEFAULT_RESTART = "exponential-delay attempts=10"
"""Of jobs with checkpoints: about two minutes of trying, then somebody should look at it."""
_KEEP: dict[str, Keep] = {"never": "never", "on-cancel": "on_cancel", "always": "always"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("--checkpoint-dir", "checkpoint_dir"),
        {"metavar": "DIR", "help": "Take checkpoints into this directory, which belongs to this job alone."},
    ),
    (
        ("--checkpoint-redis", "checkpoint_redis"),
        {"metavar": "URL", "help": "Take checkpoints into a Redis: redis://HOST:PORT/DB, rediss:// with TLS, unix://."},
    ),
    (
        ("--interval", "interval"),
        {
            "type": DURATION,
            "help": "From the beginning of a checkpoint to that of the next, such as 500ms, 10s, 1min.  [default: 10s; "
            "between Kafka topics, from one commit to the next: 100ms]",
        },
    ),
    (
        ("--min-pause", "min_pause"),
        {"type": DURATION, "help": "From the end of a checkpoint to the beginning of the next, at least."},
    ),
    (
        ("--checkpoint-timeout", "checkpoint_timeout"),
        {"type": DURATION, "help": "A checkpoint that takes longer is given up.  [default: 10min]"},
    ),
    (
        ("--retain", "retain"),
        {"type": click.IntRange(1, 1000), "metavar": "N", "help": "Checkpoints that are kept.  [default: 2]"},
    ),
    (
        ("--keep-checkpoints", "keep_checkpoints"),
        {
            "type": click.Choice(["never", "on-cancel", "always"]),
            "help": "Whether checkpoints stay when the job is cancelled, or even when its input has ended.  "
            "[default: on-cancel]",
        },
    ),
    (
        ("--resume", "resume"),
        {"is_flag": True, "help": "Go on from the newest checkpoint; refuse to start where there is none."},
    ),
    (
        ("--resume-if-any", "resume_if_any"),
        {"is_flag": True, "help": "Go on from the newest checkpoint, or begin anew where there is none."},
    ),
    (
        ("--savepoint", "-s", "savepoint"),
        {"metavar": "ADDRESS", "help": "Go on from a savepoint: a folder, or redis://HOST:PORT/DB#JOB/sp-N."},
    ),
    (
        ("--allow-dropped-state", "allow_dropped_state"),
        {"is_flag": True, "help": "Forget stored state that has no place in the program any more."},
    ),
    (
        ("--restart", "restart"),
        {
            "metavar": "STRATEGY",
            "help": "When the job fails: none, 'fixed-delay attempts=3 delay=1s', 'failure-rate max=3 interval=1min "
            "delay=1s' or 'exponential-delay initial=1s max=1min multiplier=1.5 jitter=0.1 reset-after=1h attempts=10'."
            f"  [default with checkpoints: {DEFAULT_RESTART}]",
        },
    ),
    (
        ("--durability", "durability"),
        {
            "type": click.Choice(["proven", "lowered"]),
            "help": "Use only a Redis that can prove that what it takes survives a crash, or also another.  "
            "[default: proven]",
        },
    ),
    (
        ("--on-lost-snapshot", "on_lost_snapshot"),
        {
            "type": click.Choice(["rebuild", "fail"]),
            "help": "Of jobs between Kafka topics: where the snapshot of a committed offset is gone, rebuild the state "
            "by reading input again without its output, or fail.  [default: rebuild]",
        },
    ),
    (
        ("--name", "name"),
        {"metavar": "JOB", "help": "What the job is called.  [default: the program's name]"},
    ),
    (
        ("--state-backend", "state_backend"),
        {
            "type": click.Choice(["memory", "rocksdb"]),
            "help": "Where running state is held; rocksdb for more than fits in memory.  [default: memory]",
        },
    ),
    (
        ("--state-memory", "state_memory"),
        {"type": SIZE, "metavar": "SIZE", "help": "What rocksdb and state in memory may take, such as 512MiB."},
    ),
    (
        ("--state-dir", "state_dir"),
        {"metavar": "DIR", "help": "Where rocksdb keeps its files. Scratch space: a temporary folder by default."},
    ),
)


def lasting_options(function: F) -> F:
    """Give a command the options; it gets their values by name."""
    for declarations, settings in reversed(_OPTIONS):
        function = click.option(*declarations, **settings)(function)
    return function


NAMES = frozenset(declarations[-1] for declarations, _ in _OPTIONS)


@dataclass(frozen=True, slots=True)
class Lasting:
    """What the options say together.

    Attributes:
        name: of the job.
        given_name: whether it was said, and not only taken from the program.
        address: of the checkpoint store; None: no checkpoints.
        options: of checkpoints.
        start: what to do about checkpoints that are there.
        savepoint: where to go on from instead.
        restart: what to do about failures; see `restart_strategy`.
        state: where running state is held.
        durability: see `StoreOptions`.
        on_lost_snapshot: of jobs between topics, see there.
        given_interval: what was said about the interval, ms; None: nothing.
    """

    name: str
    given_name: bool
    address: str | None
    options: CheckpointOptions
    start: Resume
    savepoint: str | None
    restart: str
    state: StateBackend
    durability: Literal["proven", "lowered"] = "proven"
    on_lost_snapshot: Literal["rebuild", "fail"] = "rebuild"
    given_interval: int | None = None


def lasting(program: str, given: dict[str, Any]) -> Lasting:
    """Check the options against each other.

    Raises:
        click.UsageError: they do not go together.
    """
    from ostinato.cep.runtime.checkpoints import CheckpointOptions
    from ostinato.cep.runtime.job import StateBackend
    from ostinato.server.restart_option import restart_strategy
    from ostinato.server.targets import absolute_address
    from ostinato.state.stores import is_redis

    folder, redis = given["checkpoint_dir"], given["checkpoint_redis"]
    if folder is not None and redis is not None:
        raise click.UsageError("--checkpoint-dir and --checkpoint-redis: checkpoints go to one place; give one of them")
    if redis is not None and not is_redis(redis):
        raise click.UsageError(
            f"--checkpoint-redis {redis}: write redis://HOST:PORT/DB (rediss:// with TLS, unix://PATH for a socket)"
        )
    if folder is not None and is_redis(folder):
        raise click.UsageError(f"--checkpoint-dir {folder}: that is no directory; use --checkpoint-redis")
    address = absolute_address(folder) if folder is not None else redis
    if address is None:
        _need_checkpoints(given)
    starts = [option for option in ("resume", "resume_if_any", "savepoint") if given[option]]
    if len(starts) > 1:
        raise click.UsageError(f"{' and '.join(map(_written, starts))}: where to go on from? Give one of them")
    if given["durability"] is not None and redis is None:
        raise click.UsageError("--durability is about a Redis; give --checkpoint-redis too (a directory is durable)")
    if given["state_backend"] != "rocksdb":
        for option in ("state_memory", "state_dir"):
            if given[option] is not None:
                raise click.UsageError(f"{_written(option)} is about RocksDB; give --state-backend rocksdb too")
    interval, timeout = given["interval"], given["checkpoint_timeout"]
    for option, value in (("interval", interval), ("checkpoint_timeout", timeout)):
        if value == 0:
            raise click.UsageError(f"{_written(option)} 0: it must take some time")
    defaults = CheckpointOptions()
    restart = given["restart"] or (DEFAULT_RESTART if address is not None else "none")
    restart_strategy(restart)
    return Lasting(
        job_name(program, given["name"]),
        given["name"] is not None,
        address,
        CheckpointOptions(
            interval_ms=defaults.interval_ms if interval is None else interval,
            min_pause_ms=given["min_pause"] or 0,
            timeout_ms=defaults.timeout_ms if timeout is None else timeout,
            retained=given["retain"] or defaults.retained,
            keep=_KEEP[given["keep_checkpoints"] or "on-cancel"],
            allow_dropped_state=given["allow_dropped_state"],
        ),
        "require" if given["resume"] else "if_any" if given["resume_if_any"] else "refuse",
        given["savepoint"],
        restart,
        StateBackend(given["state_backend"] or "memory", given["state_dir"], given["state_memory"]),
        given["durability"] or "proven",
        given["on_lost_snapshot"] or "rebuild",
        interval,
    )


def _need_checkpoints(given: dict[str, Any]) -> None:
    free = {"checkpoint_dir", "checkpoint_redis", "name", "durability", "state_backend", "state_memory", "state_dir"}
    for option in (declarations[-1] for declarations, _ in _OPTIONS):
        if option not in free and given[option] not in (None, False) and given[option] != "none":
            raise click.UsageError(
                f"{_written(option)} is about checkpoints; say where they go, with --checkpoint-dir DIR or "
                "--checkpoint-redis URL"
            )


def job_name(program: str, given: str | None) -> str:
    """What a job is called: what was said, else the program's name.

    Raises:
        click.UsageError: it is no name.
    """
    if given is None:
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", PurePath(program).stem).lstrip(".-")[:100] or "job"
    if not _NAME.fullmatch(given):
        raise click.UsageError(f"--name {given!r}: a name has letters, digits, _ . and -, 100 at most")
    return given


def _written(option: str) -> str:
    return "--" + option.replace("_", "-")


class SectionedCommand(click.Command):
    """Shows these options in a section of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (own if parameter.name in NAMES else others).append(record)
        for title, records in (("Options", others), (SECTION, own)):
            with formatter.section(title):
                formatter.write_dl(records)
