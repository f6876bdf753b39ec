"""`ostinato doctor`: whether Kafka, Redis, disk and machine are set up for a job."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ostinato.server import exits
from ostinato.server.options import DURATION, param_values

if TYPE_CHECKING:
    from ostinato.cep.connectors.kafka.options import Connection
    from ostinato.server.doctor.job import Job


@click.command("doctor")
@click.argument("program", required=False)
@click.option("--checkpoint-redis", "redis", metavar="URL", help="Examine this Redis for checkpoints, as with `run`.")
@click.option("--checkpoint-dir", "folder", metavar="DIR", help="Examine this directory for checkpoints.")
@click.option("--kafka", "servers", metavar="HOST:PORT", help="Examine this Kafka, in place of the program's.")
@click.option(
    "--interval",
    type=DURATION,
    help="From one checkpoint to the next.  [default: 100ms from Kafka to Kafka, else 10s]",
)
@click.option("--name", metavar="JOB", help="What the job is called.  [default: the program's name]")
@click.option(
    "--outage",
    type=DURATION,
    default="24h",
    show_default=True,
    help="For how long the job may stand still without losing anything.",
)
@click.option(
    "--dead-letters",
    "letters",
    metavar="TOPIC",
    help="Where records go that cannot be used, of a job from Kafka to Kafka.  [default: JOB.dead-letters]",
)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter, as `run` does.")
@click.option("--all", "-a", "all_of_them", is_flag=True, help="Show also what is as it should be.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def command(
    program: str | None,
    redis: str | None,
    folder: str | None,
    servers: str | None,
    interval: int | None,
    name: str | None,
    outage: int,
    letters: str | None,
    params: tuple[str, ...],
    all_of_them: bool,
    as_json: bool,
) -> None:
    """Examine Kafka, Redis, the checkpoint directory and this machine: say what is wrong for the job of PROGRAM, why it
    matters, and what to change. Without a PROGRAM, only what any job wants of them.

    Nothing is changed by looking. The exit code is 10 where there is an error.
    """
    from ostinato.server.lasting_options import NAMES, lasting

    given = {"checkpoint_dir": folder, "checkpoint_redis": redis, "name": name}
    called = lasting(program or "job", {**dict.fromkeys(NAMES), **given}).name
    job = _job(program, called, interval, outage, letters, params)
    from ostinato.server.doctor import report
    from ostinato.server.doctor.examine import examine
    from ostinato.server.doctor.findings import Severity
    from ostinato.state.stores import directory_of

    clusters = _clusters(job, servers)
    if servers is not None:
        job = job.moved(clusters[0].servers)
        clusters = job.connections or clusters
    findings = list(examine(job, clusters, redis, directory_of(folder) if folder is not None else None))
    if as_json:
        click.echo(report.as_json(findings))
    else:
        report.show(findings, all_of_them=all_of_them)
    sys.exit(exits.UNFIT if any(each.severity is Severity.ERROR for each in findings) else exits.OK)


def _job(
    program: str | None, name: str, interval: int | None, outage: int, letters: str | None, params: tuple[str, ...]
) -> Job:
    """The job; ends the command where the program cannot be read or is wrong."""
    from ostinato.server.doctor.job import INTERVAL_MS, Job, job_of

    if interval == 0:
        raise click.UsageError("--interval 0: it must take some time")
    if program is None:
        return Job(name, interval_ms=INTERVAL_MS if interval is None else interval, outage_ms=outage)
    from ostinato.cep.connectors.base import ConnectorError
    from ostinato.cep.runtime.load import LoadError, load, read_spec
    from ostinato.patterns.errors import PatternError

    try:
        loaded = load(read_spec(program, params=param_values(params)))
        return job_of(loaded, program, name, interval_ms=interval, outage_ms=outage, letters=letters)
    except LoadError as error:
        click.echo(f"ostinato: {error}", err=True)
        sys.exit(exits.INPUT)
    except PatternError as error:
        click.echo(str(error), err=True)
        sys.exit(exits.PROBLEMS)
    except ConnectorError as error:
        click.echo(f"ostinato: {program}: {error}", err=True)
        sys.exit(exits.PROBLEMS)


def _clusters(job: Job, servers: str | None) -> tuple[Connection, ...]:
    """How the clusters are reached that are to be examined."""
    from ostinato.cep.connectors.base import ConnectorError
    from ostinato.cep.connectors.kafka.options import BOOTSTRAP_VARIABLE, target_options
    from ostinato.patterns.ast import Connector

    if servers is None and job.program is None:
        servers = os.environ.get(BOOTSTRAP_VARIABLE)
    if servers is None:
        return job.connections
    try:
        # as a program would say it, with everything else as it is by default
        return (
            target_options(Connector("kafka", "any", None, (("bootstrap_servers", servers),)), "--kafka").connection,
        )
    except ConnectorError as error:
        raise click.UsageError(str(error)) from error
