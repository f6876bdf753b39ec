"""Manifests as bytes."""

from __future__ import annotations

import msgspec
import pytest

from ostinato.state.envelope import seal
from ostinato.state.errors import DamagedError, SnapshotError
from ostinato.state.manifest import BlobRef, Manifest, OperatorPieces, Piece, SourceState, decode, encode

MANIFEST = Manifest(
    job="logins",
    id=17,
    savepoint=False,
    taken_at=1_700_000_000_000,
    program="pattern ...",
    parallelism=2,
    key_groups=128,
    sources=[SourceState("logins", {0: {"file": "a", "offset": 7}}, {"watermark": 5})],
    sinks={"alerts": {"pending": 3}},
    operators={
        "match": OperatorPieces(b"header", [Piece(0, 0, 5, 1)], {3: [Piece(0, 5, 9, 2), Piece(1, 0, 4, 3, False)]}),
        "one that no program has any more": OperatorPieces(b"", [], {}),
    },
    counters={"events": 12},
    blobs=[BlobRef("17-w0", 14, 9), BlobRef("17-w1", 4, 8)],
)


def test_what_is_decoded_is_what_was_encoded() -> None:
    assert decode(encode(MANIFEST), "checkpoint 17") == MANIFEST


def test_every_cut_and_every_flipped_bit_is_noticed() -> None:
    data = encode(MANIFEST)
    for cut in range(len(data)):
        with pytest.raises(DamagedError, match="checkpoint 17 is damaged"):
            decode(data[:cut], "checkpoint 17")
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError, match="checkpoint 17 is damaged"):
            decode(changed, "checkpoint 17")


def test_an_unknown_version_is_refused_by_name() -> None:
    later = msgspec.structs.replace(MANIFEST, version=2)
    with pytest.raises(SnapshotError, match="checkpoint 17 has format 2; this release reads formats 1 to 1"):
        decode(encode(later), "checkpoint 17")


def test_pieces_of_blobs_that_are_not_there_are_damage() -> None:
    wrong = msgspec.structs.replace(MANIFEST, blobs=MANIFEST.blobs[:1])
    with pytest.raises(DamagedError, match="operator match refers to blob 1"):
        decode(encode(wrong), "checkpoint 17")


def test_something_else_in_a_sound_envelope_is_damage() -> None:
    for content in (b"", b"\x93\x01\x02\x03", msgspec.msgpack.encode({"job": "logins"})):
        with pytest.raises(DamagedError, match="its manifest cannot be read"):
            decode(seal(b"OMAN", 1, content), "checkpoint 17")


def test_fields_of_a_later_minor_change_do_no_harm() -> None:
    more = msgspec.msgpack.decode(msgspec.msgpack.encode(MANIFEST), strict=False) | {"more": 1}
    assert decode(seal(b"OMAN", 1, msgspec.msgpack.encode(more)), "checkpoint 17") == MANIFEST
