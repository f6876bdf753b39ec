"""Addresses of stores and savepoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostinato.server.targets import absolute_address, address_of_savepoint


def test_paths_are_made_absolute_and_urls_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_address("chk") == str(tmp_path / "chk")
    assert absolute_address("file:chk") == str(tmp_path / "chk")
    assert absolute_address("redis://localhost/0") == "redis://localhost/0"
    assert absolute_address(None) is None


@pytest.mark.parametrize(
    ("store", "savepoint", "address"),
    [
        ("/d", True, "/d/sp-3"),
        ("/d/sp-3", True, "/d/sp-3"),
        ("/d", False, "/d/chk-3"),
        ("redis://h/0", True, "redis://h/0#job/sp-3"),
    ],
)
def test_addresses_of_savepoints(store: str, savepoint: bool, address: str) -> None:
    assert address_of_savepoint(store, "job", 3, savepoint=savepoint) == address
