"""`ostinato list`: the running jobs of this machine, and those of the server."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ostinato.server.console import age, size, table
from ostinato.server.remote.connection import Remote, server_options

if TYPE_CHECKING:
    from ostinato.server.http.schemas.jobs import JobInfo


@click.command("list")
@click.option("--all", "-a", "all_of_them", is_flag=True, help="Show also jobs of the server that have ended.")
@click.option("--verbose", "-v", is_flag=True, help="Show what the time of each operator goes into.")
@server_options
def command(all_of_them: bool, verbose: bool, remote: Remote) -> None:
    """List the running jobs of this machine (and user), the oldest first, and those of the server, if there is one.

    A job that does not answer is listed as UNREACHABLE. Ages are of the last completed checkpoint: as much input would
    be read again if the job failed now.
    """
    jobs = _local_jobs()
    submitted = _server_jobs(remote, all_of_them=all_of_them)
    if remote.as_json:
        import msgspec

        document = {"jobs": jobs} if submitted is None else {"jobs": jobs, "server_jobs": submitted}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
        return
    if not jobs and not submitted:
        click.echo("no running jobs", err=True)
        return
    if jobs:
        _show_local(jobs, verbose=verbose)
    if submitted:
        if jobs:
            click.echo()
        _show_submitted(submitted, verbose=verbose)


def _server_jobs(remote: Remote, *, all_of_them: bool) -> list[JobInfo] | None:
    """The jobs of the server; None where there is no server. One that nobody named may be silent: that is said."""
    if not remote.found:
        return None
    from ostinato.server.client import calls
    from ostinato.server.remote.connection import RemoteFailure
    from ostinato.server.remote.jobs import running

    try:
        with remote.client(timeout_seconds=10.0) as client:
            return list(client.every(calls.jobs.jobs(limit=1000))) if all_of_them else running(client)
    except RemoteFailure as error:
        if remote.said:
            raise
        click.echo(f"{error.message} (its jobs are not listed)", err=True)
        return None


def _show_submitted(jobs: Sequence[JobInfo], *, verbose: bool) -> None:
    from ostinato.server.remote import shown

    now = time.time() * 1000
    shown.show_table(
        ("job of the server", "id", "since", "state", "-p", "events", "events/s", "matches", "checkpoint", "restarts"),
        (
            (
                job.name,
                job.id,
                shown.moment(job.started_ms or job.created_ms),
                job.state + (f": {job.error}" if job.error else ""),
                str(job.parallelism),
                shown.count(job.events),
                shown.count(job.events_per_second),
                shown.count(job.matches),
                "-" if job.last_checkpoint_ms is None else f"{age(max(0.0, now - job.last_checkpoint_ms) / 1000)} ago",
                str(job.restarts),
            )
            for job in jobs
        ),
        numbers=("-p", "events", "events/s", "matches", "restarts"),
    )
    for job in jobs:
        if verbose and job.operators:
            click.echo(f"\n{job.name} ({job.id}), what the time of its operators goes into")
            click.echo(table([("operator", "busy", "idle", "backpressured"), *_times(job.operators)], left=1))


def _local_jobs() -> list[dict[str, Any]]:
    from ostinato.server.jobs import JobError, ask, running_jobs
    from ostinato.server.protocol import Ask

    folder, entries = running_jobs()
    jobs: list[dict[str, Any]] = []
    for entry in entries:
        known = {
            "id": entry.id,
            "name": entry.name,
            "pid": entry.pid,
            "since": entry.since,
            "state": "UNREACHABLE",
            "parallelism": entry.parallelism,
            "program": entry.program,
            "checkpoint_address": entry.checkpoints,
        }
        try:
            jobs.append(known | ask(folder, entry, Ask("status")))
        except JobError as error:
            jobs.append(known | {"error": error.message})
    return jobs


def _show_local(jobs: Sequence[Mapping[str, Any]], *, verbose: bool) -> None:
    head = ("name", "id", "since", "state", "-p", "events", "events/s", "checkpoint", "restarts", "busy", "idle", "bp")
    click.echo(table([head, *map(_row, jobs)], left=4))
    for job in jobs:
        if verbose and job.get("operators"):
            click.echo(f"\n{job['name']} ({job['id']}), what the time of its operators goes into")
            click.echo(table([("operator", "busy", "idle", "backpressured"), *_times(job["operators"])], left=1))


def _row(job: Mapping[str, Any]) -> Sequence[str]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job["since"] / 1000))
    first = [job["name"], job["id"], since, job["state"], str(job["parallelism"])]
    if "events" not in job:
        return [*first, *["-"] * 7]
    total = job["time"]
    return [
        *first,
        f"{job['events']:,}",
        f"{job['events_per_second']:,}",
        _checkpoint(job["checkpoints"]),
        str(job["restarts"]),
        *(f"{total[part]:.0%}" for part in ("busy", "idle", "backpressured")),
    ]


def _checkpoint(checkpoints: Mapping[str, Any] | None) -> str:
    """``4 s ago, 12 ms, 1.2 MiB``"""
    if checkpoints is None:
        return "-"
    last = checkpoints["last"]
    failed = f", {checkpoints['failed_in_a_row']} failed" if checkpoints["failed_in_a_row"] else ""
    if last is None:
        return f"none yet{failed}"
    return (
        f"{age(checkpoints['age_seconds'])} ago, {last['seconds'] * 1000:.0f} ms, {size(last['bytes_written'])}{failed}"
    )


def _times(operators: Mapping[str, Mapping[str, float]]) -> list[Sequence[str]]:
    return [
        (name, *(f"{times[part]:.1%}" for part in ("busy", "idle", "backpressured")))
        for name, times in operators.items()
    ]
