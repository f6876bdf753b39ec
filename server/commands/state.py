"""`ostinato state`: what is in checkpoints and savepoints."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from ostinato.server import exits
from ostinato.server.console import age, size, table
from ostinato.server.targets import opened

if TYPE_CHECKING:
    from ostinato.state.inspect import Describer, KeyRecord, OperatorSummary
    from ostinato.state.manifest import Manifest
    from ostinato.state.savepoints import Place
    from ostinato.state.stores.base import Entry

DESCRIBERS = {
    "match": "ostinato.cep.nfa.records:describe",
    "process": "ostinato.cep.runtime.process_description:describe",
}
"""By the kind of an operator, what puts its records into words; imported when there are such records."""

_ADDRESS = click.argument("address", metavar="ADDRESS[#ID]")
_JOB = click.option("--job", default="", metavar="JOB", help="Whose, where a Redis has those of several jobs.")
_OPERATOR = click.option("--operator", default="", metavar="NAME", help="Of this operator only.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group("state")
def command() -> None:
    """Look into checkpoints and savepoints.

    ADDRESS is a directory or a Redis (redis://HOST:PORT/DB); one checkpoint is DIR/chk-17, DIR/sp-3, or
    redis://HOST:PORT/DB#JOB/sp-3. Where none is named, the newest is meant.
    """


@command.command("ls")
@_ADDRESS
@_JOB
@click.option("--groups", is_flag=True, help="Show every key group, too.")
@_JSON
def ls(address: str, job: str, groups: bool, as_json: bool) -> None:
    """List the checkpoints and savepoints of a store; of one of them, what it holds by operator and key group."""
    with opened(address, job) as places:
        if len(places) == 1 and (places[0].id is not None or _is_savepoint(places[0]) or groups):
            _list_one(places[0], groups, as_json)
        else:
            _list_all(places, as_json)


@command.command("show")
@_ADDRESS
@click.option(
    "--key", required=True, metavar="KEY", help="The key; its values with a comma between, where it has several."
)
@_OPERATOR
@_JOB
@_JSON
def show(address: str, key: str, operator: str, job: str, as_json: bool) -> None:
    """Show the state of one key."""
    from ostinato.state.inspect import find

    with opened(address, job) as places:
        manifest = _read(places[0], operator)
        found = find(places[0], manifest, key, _describers(manifest), operator)
        where = f"checkpoint {manifest.id} in {places[0].store.address}"
    if as_json:
        click.echo(_json([_plain(record) for record in found]))
    for record in found if not as_json else ():
        click.echo(f"operator {record.operator}, key group {record.group}, {size(record.bytes)}")
        click.echo(_json(record.state))
    if not found:
        click.echo(f"ostinato: no operator has state of key {key} in {where}", err=True)
        sys.exit(exits.STATE)


@command.command("export")
@_ADDRESS
@_OPERATOR
@_JOB
def export(address: str, operator: str, job: str) -> None:
    """Write the state of every key as JSON, a line each."""
    import msgspec

    from ostinato.state.inspect import records

    with opened(address, job) as places:
        manifest = _read(places[0], operator)
        for record in records(places[0], manifest, _describers(manifest), operator):
            click.echo(msgspec.json.encode(_plain(record)).decode())


@command.command("copy")
@_ADDRESS
@click.argument("target", metavar="TARGET")
@_JOB
def copy(address: str, target: str, job: str) -> None:
    """Make a savepoint of a checkpoint or savepoint in another store, and print its address.

    It holds all it needs. TARGET is any directory, or a Redis; no running job may own it.
    """
    from ostinato.state import savepoints

    with opened(address, job) as places:
        click.echo(savepoints.copy(places[0].store, places[0].chosen(), target))


# Listing


def _list_all(places: list[Place], as_json: bool) -> None:
    rows, plain = [], []
    for place in places:
        for entry in place.store.entries():
            known = _known(place, entry)
            plain.append(known)
            rows.append(_row(known))
    if as_json:
        click.echo(_json(plain))
    elif rows:
        click.echo(table([("checkpoint", "job", "taken", "age", "size", "operators", "workers"), *rows], left=3))
    else:
        click.echo("no checkpoints and no savepoints", err=True)


def _known(place: Place, entry: Entry) -> dict[str, Any]:
    """A checkpoint as plain values; a damaged one says so."""
    from ostinato.state import manifest as manifests
    from ostinato.state.errors import SnapshotError
    from ostinato.state.inspect import stored_bytes
    from ostinato.state.stores.folder import folder_name

    name = folder_name(entry.id, entry.savepoint)
    known: dict[str, Any] = {
        "name": name,
        "id": entry.id,
        "savepoint": entry.savepoint,
        "job": place.job,
        "taken_at": entry.taken_at,
        "age_seconds": round(time.time() - entry.taken_at / 1000, 3),
    }
    try:
        manifest = manifests.decode(place.store.manifest(entry.id), f"{name} in {place.store.address}")
    except SnapshotError as error:
        return known | {"error": str(error)}
    return known | {
        "job": manifest.job,
        "bytes": stored_bytes(manifest),
        "operators": list(manifest.operators),
        "parallelism": manifest.parallelism,
        "key_groups": manifest.key_groups,
        "counters": dict(manifest.counters),
    }


def _row(known: Mapping[str, Any]) -> tuple[str, ...]:
    first = (known["name"], known["job"], _time(known["taken_at"]), age(known["age_seconds"]))
    if "error" in known:
        return (*first, known["error"], "", "")
    return (*first, size(known["bytes"]), str(len(known["operators"])), str(known["parallelism"]))


def _list_one(place: Place, groups: bool, as_json: bool) -> None:
    from ostinato.state.inspect import summaries

    manifest = _read(place)
    found = summaries(place, manifest)
    entry = next(entry for entry in place.store.entries() if entry.id == manifest.id)
    if as_json:
        sources = [{"stream": source.stream, "positions": source.positions} for source in manifest.sources]
        inside = {operator.name: _operator(operator) for operator in found}
        click.echo(_json(_known(place, entry) | {"sources": sources, "operators": inside}))
        return
    kind = "savepoint" if manifest.savepoint else "checkpoint"
    taken = f"{_time(manifest.taken_at)}, {age(time.time() - manifest.taken_at / 1000)} ago"
    click.echo(f"{kind} {manifest.id} of job {manifest.job}, taken {taken}, by {manifest.parallelism} worker(s)")
    for source in manifest.sources:
        for split, position in source.positions.items():
            click.echo(f"source {source.stream}, split {split}: {_json(position, indent=0)}")
    head = ("operator", "kind", "keys", "bytes", "of no key", "key groups", "longest chain")
    rows = [
        (
            operator.name,
            operator.kind,
            f"{operator.keys:,}",
            size(operator.bytes),
            size(operator.shared_bytes),
            f"{len(operator.groups)} of {manifest.key_groups}",
            str(operator.chain),
        )
        for operator in found
    ]
    click.echo(table([head, *rows], left=2))
    for operator in found if groups else ():
        click.echo(f"\noperator {operator.name}")
        lines = [
            (str(group.group), f"{group.keys:,}", size(group.bytes), str(group.chain)) for group in operator.groups
        ]
        click.echo(table([("key group", "keys", "bytes", "chain"), *lines], left=0))


def _operator(operator: OperatorSummary) -> dict[str, Any]:
    return {
        "kind": operator.kind,
        "keys": operator.keys,
        "bytes": operator.bytes,
        "shared_bytes": operator.shared_bytes,
        "groups": {
            str(group.group): {"keys": group.keys, "bytes": group.bytes, "chain": group.chain}
            for group in operator.groups
        },
    }


# What all have in common


def _read(place: Place, operator: str = "") -> Manifest:
    """The manifest that is meant; it has the operator."""
    from ostinato.state.errors import SnapshotError
    from ostinato.state.savepoints import read

    manifest = read(place)
    if operator and operator not in manifest.operators:
        known = ", ".join(manifest.operators) or "none"
        raise SnapshotError(f"checkpoint {manifest.id} has no operator {operator}; it has: {known}")
    return manifest


def _is_savepoint(place: Place) -> bool:
    from ostinato.state.stores.folder import SavepointFolder

    return isinstance(place.store, SavepointFolder)


def _describers(manifest: Manifest) -> dict[str, Describer]:
    """What puts the records of its operators into words; kinds that nobody knows are shown as they are."""
    from ostinato.state.inspect import kind_of

    found: dict[str, Describer] = {}
    for kind in {kind_of(pieces.header) for pieces in manifest.operators.values()} & DESCRIBERS.keys():
        module, _, name = DESCRIBERS[kind].partition(":")
        describe: Callable[[bytes, bytes, bytes], Mapping[str, Any]] = getattr(import_module(module), name)
        found[kind] = describe
    return found


def _plain(record: KeyRecord) -> dict[str, Any]:
    return {"operator": record.operator, "key_group": record.group, "bytes": record.bytes, **record.state}


def _json(value: Any, indent: int = 2) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=indent).decode()


def _time(moment_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment_ms / 1000))
