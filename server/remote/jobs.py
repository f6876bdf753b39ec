"""Jobs of a server, found as those of this machine are: by name, id, or the beginning of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from ostinato.patterns.errors import did_you_mean
from ostinato.server.client import Client, calls
from ostinato.server.http.schemas.jobs import JobInfo
from ostinato.server.jobs import JobError, NoSuchJobError, find_job
from ostinato.server.registry import Entry
from ostinato.server.remote.connection import Remote

_OVER = frozenset({"FINISHED", "STOPPED", "CANCELED", "FAILED"})


def local_job(wanted: str, remote: Remote) -> tuple[Path, Entry] | None:
    """The running job of this machine that is meant; None where it is to be looked for on the server.

    Raises:
        JobError: there are several; or none, and no server either.
    """
    if remote.said:
        return None
    try:
        return find_job(wanted)
    except NoSuchJobError:
        if remote.found:
            return None
        raise


def server_job(client: Client, wanted: str) -> JobInfo:
    """The job of the server that is meant, which has not ended.

    Raises:
        JobError: there is none, or there are several.
    """
    jobs = running(client)
    tests: Sequence[Callable[[JobInfo], bool]] = (
        lambda job: job.id == wanted,
        lambda job: job.name == wanted,
        lambda job: job.id.startswith(wanted),
        lambda job: job.name.startswith(wanted),
    )
    for test in tests:
        matching = [job for job in jobs if wanted and test(job)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise JobError(f"several jobs on {client.url} are called `{wanted}`: {_listed(matching)}; give an id")
    if not jobs:
        raise JobError(f"there is no running job `{wanted}`: none runs here, nor on {client.url}")
    hint = did_you_mean(wanted, [job.name for job in jobs]) or f"on {client.url} run {_listed(jobs)}"
    raise JobError(f"there is no running job `{wanted}`; {hint}")


def running(client: Client) -> list[JobInfo]:
    """The jobs of the server that have not ended, the newest first."""
    return [job for job in client.every(calls.jobs.jobs(limit=1000)) if job.state not in _OVER]


def savepoint_name(target: str | None) -> str | None:
    """The name of a savepoint of a job of the server.

    Raises:
        click.UsageError: it is a path.
    """
    if target is not None and ("/" in target or ":" in target):
        raise click.UsageError(
            f"{target}: the server keeps the savepoints of its jobs, in its data directory; give a name, or nothing"
        )
    return target


def _listed(jobs: Sequence[JobInfo]) -> str:
    return ", ".join(f"{job.name} ({job.id})" for job in jobs)
