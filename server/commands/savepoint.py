"""`ostinato savepoint`: take, list and delete savepoints."""

from __future__ import annotations

import click

from ostinato.server.remote.connection import Remote, server_options
from ostinato.server.targets import absolute_address, address_of_savepoint, opened


@click.command("savepoint")
@click.argument("job", required=False)
@click.argument("target", required=False)
@click.option("--list", "-l", "listed", metavar="ADDRESS", help="List the savepoints and checkpoints of a store.")
@click.option("--dispose", "-d", metavar="ADDRESS", help="Delete a savepoint.")
@click.option(
    "--name", metavar="JOB", help="With --list and a Redis, or --dispose: whose they are, if the address does not say."
)
@server_options
def command(
    job: str | None, target: str | None, listed: str | None, dispose: str | None, name: str | None, remote: Remote
) -> None:
    """Take a savepoint of the running JOB (a name, an id, or the beginning of one), and print its address.

    It goes to TARGET, a directory or a Redis address, or to the job's own checkpoint store. The job goes on. `ostinato
    run ... -s ADDRESS` begins from it, also with another number of workers or a changed program. Of a job of the
    server, TARGET is the name of the savepoint.
    """
    if sum(given is not None for given in (job, listed, dispose)) != 1:
        raise click.UsageError("say of which running JOB to take a savepoint, or --list ADDRESS, or --dispose ADDRESS")
    if listed is not None:
        _list(listed, name, remote.as_json)
    elif dispose is not None:
        _dispose(dispose, name)
    else:
        assert job is not None
        _take(job, target, remote)


def _take(job: str, target: str | None, remote: Remote) -> None:
    from ostinato.server.console import size
    from ostinato.server.jobs import ask
    from ostinato.server.protocol import Ask
    from ostinato.server.remote.jobs import local_job

    local = local_job(job, remote)
    if local is None:
        _take_on_server(job, target, remote)
        return
    folder, entry = local
    result = ask(folder, entry, Ask("savepoint", absolute_address(target)))
    if remote.as_json:
        import json

        click.echo(json.dumps(result))
        return
    click.echo(result["savepoint_address"])
    said = f"{size(result['bytes_total'])} in {result['seconds']:.2f} s"
    click.echo(f"savepoint {result['id']} of job {entry.name} ({entry.id}): {said}", err=True)


def _take_on_server(job: str, target: str | None, remote: Remote) -> None:
    from ostinato.server.console import size
    from ostinato.server.remote import shown
    from ostinato.server.remote.jobs import savepoint_name, server_job

    name = savepoint_name(target)
    with remote.client() as client:
        found = server_job(client, job)
        taken = client.create_savepoint(found.id, name=name)
    if remote.as_json:
        shown.as_json(taken)
        return
    click.echo(taken.path)
    said = f"{size(taken.bytes)} in {taken.duration_ms / 1000:.2f} s"
    click.echo(f"savepoint {found.id}/{taken.name} of job {found.name}: {said}", err=True)


def _list(address: str, job: str | None, as_json: bool) -> None:
    from datetime import UTC, datetime

    from ostinato.server.console import table

    with opened(address, job) as places:
        found = [
            {
                "id": entry.id,
                "kind": "savepoint" if entry.savepoint else "checkpoint",
                "taken_at": entry.taken_at,
                "address": address_of_savepoint(place.store.address, place.job, entry.id, savepoint=entry.savepoint),
            }
            for place in places
            for entry in place.store.entries()
        ]
    if as_json:
        import json

        click.echo(json.dumps({"savepoints": found}, indent=2))
    elif found:
        rows = [
            (
                str(each["kind"]),
                str(each["id"]),
                datetime.fromtimestamp(int(each["taken_at"]) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
                str(each["address"]),
            )
            for each in found
        ]
        click.echo(table([("kind", "id", "taken at", "address"), *rows], left=4))
    else:
        click.echo("no savepoints and no checkpoints", err=True)


def _dispose(address: str, job: str | None) -> None:
    from ostinato.state.savepoints import delete
    from ostinato.state.stores.folder import SavepointFolder

    with opened(address, job) as places:
        if len(places) > 1 or (places[0].id is None and not isinstance(places[0].store, SavepointFolder)):
            raise click.UsageError(f"--dispose: which? `ostinato savepoint --list {address}` shows the addresses")
        (place,) = places
        number = place.chosen()
        delete(place)
        click.echo(f"deleted {address_of_savepoint(place.store.address, place.job, number)}", err=True)
