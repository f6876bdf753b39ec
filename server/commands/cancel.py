"""`ostinato cancel`: a job ends at once."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options


@click.command("cancel")
@click.argument("job")
@server_options
def command(job: str, remote: Remote) -> None:
    """End JOB (a name, an id, or the beginning of one) without a savepoint, and wait until it is gone. It is a running
    job of this machine, or of the server.

    What came since its last checkpoint is not published. Its checkpoints are kept or deleted as `--keep-checkpoints` of
    the run said. Its exit code is 9.
    """
    from ostinato.server.remote import shown
    from ostinato.server.remote.jobs import local_job, server_job

    local = local_job(job, remote)
    if local is not None:
        from ostinato.server.jobs import ask
        from ostinato.server.protocol import Ask

        folder, entry = local
        ask(folder, entry, Ask("cancel"))
        name, number = entry.name, entry.id
    else:
        with remote.client() as client:
            ended = client.cancel_job(server_job(client, job).id)
        name, number = ended.name, ended.id
    if remote.as_json:
        shown.as_json({"id": number, "name": name})
    else:
        click.echo(f"cancelled job {name} ({number})", err=True)
