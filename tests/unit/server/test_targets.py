"""Addresses of stores and savepoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostinato.server.targets import SavepointAddress, absolute_address, address_of_savepoint, savepoint_address


def test_paths_are_made_absolute_and_urls_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_address("chk") == str(tmp_path / "chk")
    assert absolute_address("file:chk") == str(tmp_path / "chk")
    assert absolute_address("redis://localhost/0") == "redis://localhost/0"
    assert absolute_address(None) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/data/chk", SavepointAddress("/data/chk")),
        ("/data/chk/sp-3", SavepointAddress("/data/chk/sp-3")),
        ("/data/chk/chk-17", SavepointAddress("/data/chk", 17)),
        ("redis://h/0", SavepointAddress("redis://h/0")),
        ("redis://h/0#sp-3", SavepointAddress("redis://h/0", 3)),
        ("redis://h/0#3", SavepointAddress("redis://h/0", 3)),
        ("redis://h/0#a/b/chk-4", SavepointAddress("redis://h/0", 4, "a/b")),
    ],
)
def test_what_an_address_means(text: str, found: SavepointAddress) -> None:
    assert savepoint_address(text) == found


def test_an_address_that_means_nothing_is_refused_without_its_password() -> None:
    with pytest.raises(ValueError, match=r"redis://:\*\*\*@h/0#oops: write what is behind # as sp-3"):
        savepoint_address("redis://:secret@h/0#oops")


def test_what_is_printed_is_found_again() -> None:
    assert savepoint_address(address_of_savepoint("redis://h/0", "job", 3)) == SavepointAddress("redis://h/0", 3, "job")
    assert savepoint_address(address_of_savepoint("/d", "job", 7, savepoint=False)) == SavepointAddress("/d", 7)
    assert address_of_savepoint("/d/sp-3", "job", 3) == "/d/sp-3"
