"""How far each output has come, durably."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ostinato.state.stores.files import make_folder, write
from ostinato.state.typed import decode_json


class CursorStore(Protocol):
    """The number of the last match that each output has done with; `server.catalog.Cursors` is one. Its methods may
    block, and are called in threads."""

    def get(self, name: str) -> int | None:
        """The cursor of an output; None where there is none yet."""

    def put(self, cursors: Mapping[str, int]) -> None:
        """Set some. They are durable when it returns."""

    def delete(self, name: str) -> None:
        """Forget one."""


class FileCursors:
    """A file for each, in a folder."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder = folder

    def get(self, name: str) -> int | None:
        try:
            return decode_json((self._folder / f"{name}.cursor").read_bytes(), int)
        except FileNotFoundError:
            return None

    def put(self, cursors: Mapping[str, int]) -> None:
        for name, seq in cursors.items():
            write(self._folder / f"{name}.cursor", [msgspec.json.encode(seq)])

    def delete(self, name: str) -> None:
        (self._folder / f"{name}.cursor").unlink(missing_ok=True)
