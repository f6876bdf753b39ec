"""`ostinato stop`: a job ends with a savepoint, from which it can go on."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("stop")
@click.argument("job")
@click.option(
    "--savepoint-path",
    "-p",
    "target",
    metavar="TARGET",
    help="Where the savepoint goes: a directory or a Redis address; of a job of the server, its name. The job's own "
    "store by default.",
)
@click.option(
    "--drain",
    is_flag=True,
    help="First let time come to its end, so that everything comes out that waits for time; for a job that will not "
    "go on later.",
)
@server_options
def command(job: str, target: str | None, drain: bool, remote: Remote) -> None:
    """Stop JOB (a name, an id, or the beginning of one) with a savepoint, and wait until it is gone. It is a running
    job of this machine, or of the server.

    Its output up to the savepoint is published, and its exit code is 0. If the savepoint cannot be written, the job
    goes on. `ostinato run ... -s SAVEPOINT` goes on from it.
    """
    from ostinato.server.remote import shown
    from ostinato.server.remote.jobs import local_job, savepoint_name, server_job

    local = local_job(job, remote)
    if local is not None:
        from ostinato.server.jobs import ask
        from ostinato.server.protocol import Ask
        from ostinato.server.targets import absolute_address

        folder, entry = local
        result = ask(folder, entry, Ask("stop", absolute_address(target), drain))
        if remote.as_json:
            shown.as_json(result)
            return
        click.echo(result["savepoint_address"])
        click.echo(f"stopped job {entry.name} ({entry.id}) with savepoint {result['id']}", err=True)
        return
    name = savepoint_name(target)
    with remote.client() as client:
        found = server_job(client, job)
        taken = client.stop_job(found.id, savepoint=name, drain=drain)
    if remote.as_json:
        shown.as_json(taken)
        return
    click.echo(taken.path)
    click.echo(f"stopped job {found.name} ({found.id}) with savepoint {found.id}/{taken.name}", err=True)
