"""Text columns: comparing, searching, hashing, numbering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep import strings
from ostinato.cep.batch import Strings, Vector
from ostinato.cep.strings import Interner
from ostinato.patterns.types import BIGINT, DOUBLE

TEXTS = ["", "a", "ab", "abc", "abcd", "abcdefg", "abcdefgh", "abcdefghi", "x" * 40, "żółw", "\U0001f600", "ab"]

texts = st.lists(st.text(max_size=20) | st.sampled_from(TEXTS), max_size=30)


@given(texts, st.sampled_from(TEXTS) | st.text(max_size=3))
@settings(max_examples=60, deadline=None)
def test_searches_agree_with_python(values: list[str], wanted: str) -> None:
    column = Strings.of(values)
    assert strings.equals(column, wanted).tolist() == [value == wanted for value in values]
    assert strings.starts_with(column, wanted).tolist() == [value.startswith(wanted) for value in values]
    assert strings.ends_with(column, wanted).tolist() == [value.endswith(wanted) for value in values]
    assert strings.contains(column, wanted).tolist() == [wanted in value for value in values]
    assert strings.find(column, wanted).tolist() == [value.encode().find(wanted.encode()) for value in values]


@given(texts, texts)
@settings(max_examples=60, deadline=None)
def test_columns_compare_by_utf16_code_unit(left: list[str], right: list[str]) -> None:
    rows = min(len(left), len(right))
    left, right = left[:rows], right[:rows]
    units = [(one.encode("utf-16-be"), two.encode("utf-16-be")) for one, two in zip(left, right, strict=True)]
    expected = [(one > two) - (one < two) for one, two in units]
    assert strings.compare(Strings.of(left), Strings.of(right)).tolist() == expected
    assert strings.equals_each(Strings.of(left), Strings.of(right)).tolist() == [sign == 0 for sign in expected]


def test_supplementary_characters_sort_before_the_end_of_the_basic_plane() -> None:
    assert strings.compare(Strings.of(["\U0001f600", "\ufb01", "z"]), "\ufb01").tolist() == [-1, 0, -1]


def test_gather_copies_only_the_texts() -> None:
    source = Strings.of(TEXTS).take(np.array([3, 0, 3, 9]))
    copied = strings.gather(source)
    assert copied.to_list() == ["abc", "", "abc", "żółw"]
    assert len(copied.data) == 6 + len("żółw".encode())
    assert source.compact().to_list() == copied.to_list()


def test_hashes_are_what_they_were_in_the_first_release() -> None:
    column = Strings.of(["", "a", "abc", "abcd", "abcdefgh", "u123456789", "x" * 40])
    assert [f"{value:016x}" for value in strings.hash_texts(column).tolist()] == HASHES


HASHES = [
    "2a295cf3de63b0e4",
    "7361be41030c4cac",
    "07802c6c4b0197ad",
    "e1ed5723725ef5a1",
    "3c4498de32079a64",
    "d31bc9106ac076bf",
    "a3d24b254463c291",
]


@given(st.lists(st.text(max_size=20), unique=True, min_size=2, max_size=50))
@settings(max_examples=50, deadline=None)
def test_different_texts_hash_differently(values: list[str]) -> None:
    assert len(set(strings.hash_texts(Strings.of(values)).tolist())) == len(values)


def test_a_row_hash_counts_every_column_in_order() -> None:
    numbers = Vector.of(BIGINT, [1, 1, 2, 1])
    names = Vector.of(BIGINT, [2, 2, 1, 3])
    hashes = strings.hash_rows([numbers, names], 4).tolist()
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_negative_zero_hashes_as_zero() -> None:
    hashes = strings.hash_rows([Vector.of(DOUBLE, [0.0, -0.0])], 2).tolist()
    assert hashes[0] == hashes[1]


@given(st.lists(texts, max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_interner_numbers_as_a_dict_does(batches: list[list[str]]) -> None:
    interner, known = Interner(1), dict[str, int]()
    for batch in batches:
        codes = interner.intern(Strings.of(batch))
        assert codes.tolist() == [known.setdefault(text, len(known)) for text in batch]
    assert len(interner) == len(known)
    assert interner.strings().to_list() == list(known)
    assert all(interner.text(code) == text and interner.lookup(text) == code for text, code in known.items())
    assert interner.lookup("not \x00 there") == -1
    back = Interner.restore(interner.snapshot())
    assert back.strings().to_list() == list(known)


def test_the_interner_grows_through_many_texts() -> None:
    interner = Interner(4)
    values = [f"user-{i % 5000}" for i in range(20_000)]
    codes = interner.intern(Strings.of(values))
    assert codes.tolist() == [i % 5000 for i in range(20_000)]
    assert interner.intern(Strings.of(["y" * 100_000])).tolist() == [5000]
    assert interner.text(5000) == "y" * 100_000


def test_nulls_get_no_code() -> None:
    interner = Interner()
    codes = interner.intern(Strings.of(["a", None, "b"]), np.array([True, False, True]))
    assert codes.tolist() == [0, -1, 1]
    assert interner.strings(codes).to_list() == ["a", "", "b"]


def test_retain_renumbers_and_forgets() -> None:
    interner = Interner()
    for text in ["a", "b", "c", "d"]:
        interner.code(text)
    early = interner.strings(np.array([1]))
    mapping = interner.retain(np.array([3, 1, 3, -1]))
    assert mapping.tolist() == [-1, 0, -1, 1]
    assert interner.strings().to_list() == ["b", "d"]
    assert interner.code("a") == 2
    assert early.to_list() == ["b"]
    assert interner.retain(np.array([], np.int64)).tolist() == [-1, -1, -1]
    assert len(interner) == 0


def test_a_code_that_was_never_given_has_no_text() -> None:
    with pytest.raises(IndexError, match="no text has the code 3"):
        Interner().text(3)


@pytest.mark.parametrize("damage", [b"", b"OSTI\x02" + bytes(8), b"OSTI\x01\x05" + bytes(7)])
def test_a_damaged_snapshot_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        Interner.restore(damage)
