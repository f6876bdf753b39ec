"""`ostinato savepoint`: take, list and delete savepoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from ostinato.server import exits

if TYPE_CHECKING:
    from ostinato.state.stores.base import CheckpointStore, Entry

T = TypeVar("T")


@click.command("savepoint")
@click.argument("job", required=False)
@click.argument("target", required=False)
@click.option("--list", "-l", "listed", metavar="ADDRESS", help="List the savepoints and checkpoints of a store.")
@click.option("--dispose", "-d", metavar="ADDRESS", help="Delete a savepoint.")
@click.option(
    "--name", metavar="JOB", help="With --list and a Redis, or --dispose: whose they are, if the address does not say."
)
@click.option("--json", "as_json", is_flag=True, help="Print what is listed, or was taken, as one JSON object.")
def command(
    job: str | None, target: str | None, listed: str | None, dispose: str | None, name: str | None, as_json: bool
) -> None:
    """Take a savepoint of the running JOB (a name, an id, or the beginning of one), and print its address.

    It goes to TARGET, a directory or a Redis address, or to the job's own checkpoint store. The job goes on. `ostinato
    run ... -s ADDRESS` begins from it, also with another number of workers or a changed program.
    """
    if sum(given is not None for given in (job, listed, dispose)) != 1:
        raise click.UsageError("say of which running JOB to take a savepoint, or --list ADDRESS, or --dispose ADDRESS")
    if listed is not None:
        _list(listed, name, as_json)
    elif dispose is not None:
        _dispose(dispose, name)
    else:
        assert job is not None
        _take(job, target, as_json)


def _take(job: str, target: str | None, as_json: bool) -> None:
    from ostinato.server.console import size
    from ostinato.server.jobs import ask, find_job
    from ostinato.server.protocol import Ask
    from ostinato.server.targets import absolute_address

    folder, entry = find_job(job)
    result = ask(folder, entry, Ask("savepoint", absolute_address(target)))
    if as_json:
        import json

        click.echo(json.dumps(result))
        return
    click.echo(result["savepoint_address"])
    said = f"{size(result['bytes_total'])} in {result['seconds']:.2f} s"
    click.echo(f"savepoint {result['id']} of job {entry.name} ({entry.id}): {said}", err=True)


def _list(address: str, job: str | None, as_json: bool) -> None:
    from datetime import UTC, datetime

    from ostinato.server.console import table
    from ostinato.server.targets import address_of_savepoint, shown_address

    store, job, _ = _open(address, job)
    entries = _guarded(store.entries)
    store.close()
    place = store.address
    if as_json:
        import json

        found = [
            {
                "id": entry.id,
                "kind": "savepoint" if entry.savepoint else "checkpoint",
                "taken_at": entry.taken_at,
                "address": address_of_savepoint(place, job, entry.id, savepoint=entry.savepoint),
            }
            for entry in entries
        ]
        click.echo(json.dumps({"store": place, "savepoints": found}, indent=2))
    elif entries:
        rows = [
            (
                "savepoint" if entry.savepoint else "checkpoint",
                str(entry.id),
                datetime.fromtimestamp(entry.taken_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
                shown_address(address_of_savepoint(place, job, entry.id, savepoint=entry.savepoint)),
            )
            for entry in entries
        ]
        click.echo(table([("kind", "id", "taken at", "address"), *rows], left=4))
    else:
        click.echo(f"no savepoints and no checkpoints in {shown_address(place)}", err=True)


def _dispose(address: str, job: str | None) -> None:
    """Delete a savepoint: one that lies alone as a folder, else by its store's owner, which we become for it."""
    import os
    import shutil

    from ostinato.server.targets import shown_address

    store, _, id_ = _open(address, job)
    from ostinato.state.stores.folder import SavepointFolder, damaged_if_missing

    shown = shown_address(address)
    if isinstance(store, SavepointFolder):
        from ostinato.state.errors import StateError

        def remove() -> None:
            damaged_if_missing(store.folder)
            try:
                # The manifest first, so that what is left after an interruption is no savepoint.
                (store.folder / "manifest").unlink()
                shutil.rmtree(store.folder)
            except OSError as error:
                raise StateError(f"cannot delete {shown}: {(error.strerror or str(error)).lower()}") from error

        _guarded(remove)
    else:
        if id_ is None:
            if not _guarded(store.entries):
                raise StateFailure(f"there is no savepoint in {shown}")
            raise click.UsageError(f"--dispose {shown}: which? `ostinato savepoint --list {shown}` shows the addresses")

        def delete() -> None:
            from ostinato.state.errors import SnapshotError

            entry = next((entry for entry in store.entries() if entry.id == id_), None)
            if entry is None:
                raise SnapshotError(f"there is no savepoint {id_} in {shown_address(store.address)}")
            if not entry.savepoint:
                raise SnapshotError(f"{shown} is a checkpoint, not a savepoint; its job deletes it by itself")
            store.acquire(f"ostinato savepoint --dispose (process {os.getpid()})")
            try:
                _delete_one(store, entry)
            finally:
                store.release()

        _guarded(delete)
    store.close()
    click.echo(f"deleted {shown}", err=True)


def _delete_one(store: CheckpointStore, entry: Entry) -> None:
    """Delete it, and the blobs that no other refers to; the store is ours."""
    from ostinato.state import manifest as manifests

    blobs: dict[int, set[str]] = {
        other.id: {blob.name for blob in manifests.decode(store.manifest(other.id), f"checkpoint {other.id}").blobs}
        for other in store.entries()
    }
    own = blobs.pop(entry.id)
    store.delete(entry.id, own.difference(*blobs.values()))


def _open(address: str, job: str | None) -> tuple[CheckpointStore, str, int | None]:
    """The store, whose checkpoints are meant, and the id where the address names one."""
    from ostinato.server.targets import savepoint_address, shown_address
    from ostinato.state.stores import is_redis, open_store

    try:
        place = savepoint_address(address)
        name = place.job or job
        if name is None and is_redis(place.store):
            shown = shown_address(address)
            raise click.UsageError(f"{shown}: of which job? Add --name JOB; a Redis holds those of many")
        return open_store(place.store, job=name or ""), name or "", place.id
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _guarded(work: Callable[[], T]) -> T:
    """Errors of stored state end the command in one line."""
    from ostinato.state.errors import StateError

    try:
        return work()
    except StateError as error:
        raise StateFailure(str(error)) from error


class StateFailure(click.ClickException):
    """Stored state cannot be used."""

    exit_code = exits.STATE

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's
        click.echo(f"ostinato: {self.message}", err=True)
