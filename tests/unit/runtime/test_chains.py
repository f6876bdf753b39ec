"""Chains of pieces: what a checkpoint builds on, and when it begins again."""

from __future__ import annotations

from ostinato.cep.runtime.chains import MAX_CHANGES, Layout, Part
from ostinato.state.manifest import BlobRef, OperatorPieces, Piece


def part(blob: str, groups: dict[int, tuple[int, bool]], *, worker: int = 0, shared: int = 0, size: int = 0) -> Part:
    """A part with one blob: by key group the length of a piece, and whether it is whole."""
    pieces = {group: [Piece(0, 0, length, 0, whole)] for group, (length, whole) in groups.items()}
    length = size or sum(length for length, _ in groups.values())
    own = [Piece(0, 0, shared, 0)] if shared else []
    return Part(worker, [BlobRef(blob, length, 0)], {"op": OperatorPieces(b"head", own, pieces)})


def test_changes_follow_what_is_whole() -> None:
    layout = Layout().followed_by([part("1", {3: (100, True), 4: (50, True)})])
    layout = layout.followed_by([part("2", {3: (10, False)}, shared=5)])
    operators, blobs = layout.pieces()
    assert [(piece.blob, piece.length) for piece in operators["op"].groups[3]] == [(1, 100), (0, 10)]
    assert [(piece.blob, piece.length) for piece in operators["op"].groups[4]] == [(1, 50)]
    assert [blob.name for blob in blobs] == ["2", "1"]
    assert [piece.length for piece in operators["op"].shared] == [5]


def test_a_whole_piece_begins_a_chain_again_and_old_blobs_are_let_go() -> None:
    layout = Layout().followed_by([part("1", {3: (100, True)})]).followed_by([part("2", {3: (10, False)})])
    operators, blobs = layout.followed_by([part("3", {3: (90, True)})]).pieces()
    assert [blob.name for blob in blobs] == ["3"]
    assert len(operators["op"].groups[3]) == 1


def test_what_belongs_to_no_key_is_only_that_of_the_newest() -> None:
    layout = Layout().followed_by([part("1", {}, shared=5), part("2", {}, worker=1, shared=6)])
    assert [piece.length for piece in layout.pieces()[0]["op"].shared] == [5, 6]
    layout = layout.followed_by([part("3", {}, shared=7)])
    assert [piece.length for piece in layout.pieces()[0]["op"].shared] == [7]
    layout = layout.followed_by([])
    assert layout.pieces()[0]["op"].shared == []


def test_chains_that_have_grown_are_begun_again_a_few_at_a_time() -> None:
    groups = 64
    size = 1 << 20
    layout = Layout().followed_by([part("0", dict.fromkeys(range(groups), (size, True)))])
    assert layout.overgrown() == {}
    for number in range(MAX_CHANGES + 1):
        layout = layout.followed_by([part(f"{number + 1}", dict.fromkeys(range(groups), (10, False)))])
    wanted = layout.overgrown()["op"]
    assert 4 <= len(wanted) <= groups // 8 + 1, "only so much is written again at once"


def test_a_chain_with_many_changes_is_begun_again() -> None:
    layout = Layout().followed_by([part("0", {3: (100, True), 4: (100, True)})])
    layout = layout.followed_by([part("1", {3: (51, False), 4: (49, False)})])
    assert layout.overgrown() == {"op": [3]}


def test_what_alone_keeps_a_big_old_blob_is_written_again() -> None:
    layout = Layout().followed_by([part("0", {3: (1000, True), 4: (1000, True)}, size=1 << 30)])
    layout = layout.followed_by([part("1", {3: (1000, True)})])
    assert layout.overgrown() == {"op": [4]}
