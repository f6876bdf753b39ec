"""What is committed with an offset: the name of the snapshot that belongs to it.

Kafka keeps a short text with every committed offset. It holds all that a new owner of the partition needs to know:
which snapshot, and by its checksum exactly that one; how far time had come; where the job began.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ostinato.state.errors import SnapshotError
from ostinato.state.typed import decode_json

_VERSION: Final = 1


class Position(msgspec.Struct, frozen=True, kw_only=True, rename={"version": "v"}, omit_defaults=True):
    """What belongs to the committed offsets of one partition number.

    Attributes:
        snapshot: its id in the partition's store; 0 where there is no state.
        crc: of its manifest's bytes, CRC-32.
        watermark: event time, ms: the smallest of the sources.
        idle: nothing comes at the moment, and the partition holds nobody back.
        began: topic -> the offset from which on the job has read it.
        version: of this format.
    """

    snapshot: int
    crc: int
    watermark: int
    began: Mapping[str, int]
    idle: bool = False
    version: int = _VERSION

    def encode(self) -> str:
        return "ostinato" + msgspec.json.encode(self).decode()

    @staticmethod
    def decode(text: str | None, what: str) -> Position:
        """Raises SnapshotError where it is of somebody else, or of a later release."""
        try:
            if not (text or "").startswith("ostinato"):
                raise ValueError(f"with it is kept {text!r}")
            assert text is not None
            found = decode_json(text.removeprefix("ostinato"), Position)
        except (msgspec.MsgspecError, ValueError) as error:
            raise SnapshotError(
                f"{what}: the offset was not committed by Ostinato ({error}); give the job another --name, whose "
                "consumer group nobody else uses"
            ) from None
        if found.version > _VERSION:
            raise SnapshotError(f"{what}: the offset was committed by a later release; run that one")
        return found
