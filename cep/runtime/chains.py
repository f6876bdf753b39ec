"""What the last completed checkpoint consists of, and how the next one builds on it.

A key group's *chain* is one piece with all its records, then pieces with changes. A chain that has grown too long is
begun again: restoring would read much that counts no more, and old blobs could not be deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from ostinato.state.manifest import BlobRef, OperatorPieces, Piece

MAX_CHANGES: Final = 16
"""Pieces of changes behind a whole one: each is a read of its own on restore, and a line of every manifest."""
_REFRESH_PART: Final = 8
"""So much of all state (one part in so many) may be written again by a checkpoint because chains have grown."""
_REFRESH_BYTES: Final = 1 << 20
"""Small chains are begun again as soon as they want it."""
_BLOBS_FACTOR: Final = 3
_BLOBS_BYTES: Final = 64 << 20
"""Blobs may hold this many times what still counts, and so much more, before one is emptied: what still counts in it is
written again."""


class Part(msgspec.Struct, frozen=True):
    """What one worker has written for a checkpoint. Seconds: the operators were asked; it was packed and stored."""

    worker: int
    blobs: Sequence[BlobRef]
    operators: Mapping[str, OperatorPieces]
    snapshot_seconds: float = 0.0
    write_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Link:
    """A piece and the blob that it is in."""

    blob: BlobRef
    piece: Piece


Chain: TypeAlias = tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the state of a checkpoint is: by operator its header, what belongs to no key, and its groups' chains."""

    headers: Mapping[str, bytes] = field(default_factory=dict)
    shared: Mapping[str, Chain] = field(default_factory=dict)
    groups: Mapping[str, Mapping[int, Chain]] = field(default_factory=dict)

    def followed_by(self, parts: Iterable[Part]) -> Layout:
        """The layout after the parts of one more checkpoint."""
        headers = dict(self.headers)
        shared: dict[str, list[Link]] = {}
        groups = {operator: dict(chains) for operator, chains in self.groups.items()}
        for part in parts:
            for operator, pieces in part.operators.items():
                headers[operator] = pieces.header or headers.get(operator, b"")
                shared.setdefault(operator, []).extend(_links(part, pieces.shared))
                own = groups.setdefault(operator, {})
                for group, chain in pieces.groups.items():
                    links = _links(part, chain)
                    own[group] = links if links and links[0].piece.whole else own.get(group, ()) + links
        return Layout(headers, {operator: tuple(links) for operator, links in shared.items()}, groups)

    def pieces(self) -> tuple[dict[str, OperatorPieces], list[BlobRef]]:
        """The layout as a manifest has it."""
        blobs: dict[str, int] = {}
        refs: list[BlobRef] = []

        def placed(chain: Chain) -> list[Piece]:
            found = []
            for link in chain:
                number = blobs.setdefault(link.blob.name, len(refs))
                if number == len(refs):
                    refs.append(link.blob)
                piece = link.piece
                found.append(Piece(number, piece.offset, piece.length, piece.crc, piece.whole))
            return found

        operators = {
            operator: OperatorPieces(
                header,
                placed(self.shared.get(operator, ())),
                {group: placed(chain) for group, chain in sorted(self.groups.get(operator, {}).items())},
            )
            for operator, header in self.headers.items()
        }
        return operators, refs

    def overgrown(self) -> dict[str, list[int]]:
        """The groups that the next checkpoint should ask for in full, by operator."""
        chains = [(operator, group, chain) for operator, own in self.groups.items() for group, chain in own.items()]
        waste: dict[str, int] = {}
        live = used = 0
        for link in (link for _, _, chain in chains for link in chain):
            if link.blob.name not in waste:
                waste[link.blob.name] = link.blob.size
                used += link.blob.size
            waste[link.blob.name] -= link.piece.length
            live += link.piece.length
        worst = max(waste, key=waste.__getitem__) if used > _BLOBS_FACTOR * live + _BLOBS_BYTES else ""
        budget = max(live // _REFRESH_PART, _REFRESH_BYTES)
        wanted: dict[str, list[int]] = {}
        for operator, group, chain in sorted(chains, key=lambda each: -len(each[2])):
            first, *changes = (link.piece.length for link in chain)
            keeps_worst = bool(worst) and chain[0].blob.name == worst
            if not keeps_worst and len(changes) <= MAX_CHANGES and 2 * sum(changes) <= first:
                continue
            # Changes of that size would be written in any case.
            extra = max(0, first - (changes[-1] if changes else 0))
            if extra > budget:
                continue
            budget -= extra
            wanted.setdefault(operator, []).append(group)
        return wanted


def _links(part: Part, pieces: Sequence[Piece]) -> Chain:
    return tuple(Link(part.blobs[piece.blob], piece) for piece in pieces)
