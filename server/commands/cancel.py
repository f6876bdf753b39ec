"""`ostinato cancel`: a job ends at once."""

from __future__ import annotations

import click


@click.command("cancel")
@click.argument("job")
def command(job: str) -> None:
    """End JOB (a name, an id, or the beginning of one) without a savepoint, and wait until it is gone.

    What came since its last checkpoint is not published. Its checkpoints are kept or deleted as `--keep-checkpoints` of
    the run said. Its exit code is 9.
    """
    from ostinato.server.jobs import ask, find_job
    from ostinato.server.protocol import Ask

    folder, entry = find_job(job)
    ask(folder, entry, Ask("cancel"))
    click.echo(f"cancelled job {entry.name} ({entry.id})", err=True)
