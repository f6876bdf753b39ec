"""`ostinato list`: the running jobs of this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ostinato.server.console import age, size, table


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@click.option("--verbose", "-v", is_flag=True, help="Show what the time of each operator goes into.")
def command(as_json: bool, verbose: bool) -> None:
    """List the running jobs of this machine (and user), the oldest first.

    A job that does not answer is listed as UNREACHABLE. Ages are of the last completed checkpoint: as much input would
    be read again if the job failed now.
    """
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
    if as_json:
        import json

        click.echo(json.dumps({"jobs": jobs}, indent=2))
        return
    if not jobs:
        click.echo("no running jobs", err=True)
        return
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
