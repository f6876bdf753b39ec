"""Looking into stored state: how much there is of what, and what one key's state says."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from ostinato.state.blobs import Stored, current
from ostinato.state.manifest import Manifest
from ostinato.state.records import Records
from ostinato.state.savepoints import Place

Describer: TypeAlias = Callable[[bytes, bytes, bytes], Mapping[str, Any]]
"""``(header, key, value)`` -> the key (``key``) and its state in plain values."""


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A key group of an operator. `bytes`: as stored; `chain`: pieces that have to be read for it."""

    group: int
    keys: int
    bytes: int
    chain: int


@dataclass(frozen=True, slots=True)
class OperatorSummary:
    """An operator. `kind`: what its records are; `shared_bytes`: what belongs to no key, as stored."""

    name: str
    kind: str
    shared_bytes: int
    groups: list[GroupSummary]

    @property
    def keys(self) -> int:
        return sum(group.keys for group in self.groups)

    @property
    def bytes(self) -> int:
        return self.shared_bytes + sum(group.bytes for group in self.groups)

    @property
    def chain(self) -> int:
        """The longest."""
        return max((group.chain for group in self.groups), default=0)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key's state in an operator; `state` is in plain values, the key too."""

    operator: str
    group: int
    bytes: int
    state: Mapping[str, Any]


def stored_bytes(manifest: Manifest) -> int:
    """What a checkpoint needs of its blobs, bytes."""
    return sum(
        piece.length
        for pieces in manifest.operators.values()
        for chain in (pieces.shared, *map(current, pieces.groups.values()))
        for piece in chain
    )


def summaries(place: Place, manifest: Manifest) -> list[OperatorSummary]:
    """Every operator with its key groups; reads all there is. Raises DamagedError, SnapshotError, StoreError."""
    found = []
    for name, pieces in manifest.operators.items():
        keys = {group: len(records) for group, records in _stored(place, manifest, name).records()}
        chains = {group: current(chain) for group, chain in sorted(pieces.groups.items())}
        groups = [
            GroupSummary(group, keys.get(group, 0), sum(piece.length for piece in chain), len(chain))
            for group, chain in chains.items()
        ]
        shared = sum(piece.length for piece in pieces.shared)
        found.append(OperatorSummary(name, kind_of(pieces.header), shared, groups))
    return found


def records(
    place: Place, manifest: Manifest, describers: Mapping[str, Describer], operator: str = ""
) -> Iterator[KeyRecord]:
    """The state of every key, or of those of one operator. Raises as `summaries` does."""
    for name in manifest.operators:
        if operator in ("", name):
            describe = describers.get(kind_of(manifest.operators[name].header), raw)
            for group, found in _stored(place, manifest, name).records():
                yield from _described(name, group, found, manifest.operators[name].header, describe)


def find(
    place: Place, manifest: Manifest, key: str, describers: Mapping[str, Describer], operator: str = ""
) -> list[KeyRecord]:
    """The state of a key, given as it is shown: its value, or its values in their order with a comma between.

    Raises as `summaries` does.
    """
    # most keys are texts that stand in the record's key as they are: only those are put into words at first
    found = list(_matching(place, manifest, key, describers, operator, key.encode()))
    return found or list(_matching(place, manifest, key, describers, operator, b""))


def kind_of(header: bytes) -> str:
    """What an operator's records are, by its header; ``unknown`` where it does not say."""
    try:
        found = msgspec.msgpack.decode(header) if header else {}
    except msgspec.MsgspecError:
        return "unknown"
    return str(found.get("kind", "unknown")) if isinstance(found, dict) else "unknown"


def raw(header: bytes, key: bytes, value: bytes) -> Mapping[str, Any]:  # noqa: ARG001 - a Describer
    """What can be said of records of a kind that nobody can put into words."""
    return {"key": {"base64": base64.b64encode(key).decode()}, "value": {"base64": base64.b64encode(value).decode()}}


def spelled(key: Any, given: bytes = b"") -> set[str]:
    """How somebody may write a key.

    >>> sorted(spelled({"user": "ada", "card": 7}))
    ['ada,7', '{"user":"ada","card":7}']
    """
    written = {msgspec.json.encode(key).decode()}
    if isinstance(key, Mapping):
        written.add(",".join(str(value) for value in key.values()))
    else:
        written.add(str(key))
    if given.isascii() and given.decode().isprintable():
        written.add(given.decode())
    return written


def _stored(place: Place, manifest: Manifest, operator: str) -> Stored:
    every = range(manifest.key_groups)
    return Stored(operator, manifest.operators[operator], manifest.blobs, place.store, every)


def _described(name: str, group: int, found: Records, header: bytes, describe: Describer) -> Iterator[KeyRecord]:
    for key, value in found.items():
        yield KeyRecord(name, group, len(key) + len(value), describe(header, key, value))


def _matching(
    place: Place, manifest: Manifest, wanted: str, describers: Mapping[str, Describer], operator: str, part: bytes
) -> Iterator[KeyRecord]:
    for name in manifest.operators:
        if operator not in ("", name):
            continue
        header = manifest.operators[name].header
        describe = describers.get(kind_of(header), raw)
        for group, found in _stored(place, manifest, name).records():
            for key, value in found.items():
                if part in key:
                    state = describe(header, key, value)
                    if wanted in spelled(state.get("key"), key):
                        yield KeyRecord(name, group, len(key) + len(value), state)
