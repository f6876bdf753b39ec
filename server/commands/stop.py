"""`ostinato stop`: a job ends with a savepoint, from which it can go on."""

from __future__ import annotations

import click


@click.command("stop")
@click.argument("job")
@click.option(
    "--savepoint-path",
    "-p",
    "target",
    metavar="TARGET",
    help="Where the savepoint goes: a directory or a Redis address. The job's own checkpoint store by default.",
)
@click.option(
    "--drain",
    is_flag=True,
    help="First let time come to its end, so that everything comes out that waits for time; for a job that will not "
    "go on later.",
)
def command(job: str, target: str | None, drain: bool) -> None:
    """Stop JOB (a name, an id, or the beginning of one) with a savepoint, and wait until it is gone.

    Its output up to the savepoint is published, and its exit code is 0. If the savepoint cannot be written, the job
    goes on. `ostinato run ... -s SAVEPOINT` goes on from it.
    """
    from ostinato.server.jobs import ask, find_job
    from ostinato.server.protocol import Ask
    from ostinato.server.targets import absolute_address

    folder, entry = find_job(job)
    result = ask(folder, entry, Ask("stop", absolute_address(target), drain))
    click.echo(result["savepoint_address"])
    click.echo(f"stopped job {entry.name} ({entry.id}) with savepoint {result['id']}", err=True)
