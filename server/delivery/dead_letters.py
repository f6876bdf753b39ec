"""What a target did not take is kept, in a file beside the output's other things."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from ostinato.server.delivery.encoding import match_json
from ostinato.server.matches import Match
from ostinato.state.stores.files import make_folder, sync_folder


class OutputDeadLetters:
    """Lines of JSON: ``{"output", "at", "reason", "match"}``, `at` epoch ms."""

    def __init__(self, folder: Path, output: str, server: str) -> None:
        self.path = folder / f"{output}.dead-letters.ndjson"
        self._output = output
        self._server = server

    def add(self, matches: Sequence[Match], reason: str) -> None:
        """Keep them; they are durable when it returns. Raises OSError."""
        head = orjson.dumps({"output": self._output, "at": time.time_ns() // 1_000_000, "reason": reason})[:-1]
        lines = b"".join(b'%s,"match":%s}\n' % (head, match_json(self._server, match)) for match in matches)
        make_folder(self.path.parent)
        is_new = not self.path.exists()
        with self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                left = memoryview(lines)
                while left:
                    left = left[file.write(left) or 0 :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        if is_new:
            sync_folder(self.path.parent)
