"""A real `ostinato server` in a process of its own, with the command beside it."""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from .conftest import Finished, Folder


class ServerProcess:
    """A server over a data directory in a folder, to be started as often as it ends.

    Attributes:
        folder: where the command is run; finds the server by itself.
        url: the same at every start.
    """

    def __init__(self, path: Path, bytecode: Path) -> None:
        self.folder = Folder(path, bytecode)
        for name in ("OSTINATO_URL", "OSTINATO_TOKEN", "OSTINATO_CA_FILE"):
            self.folder.environment.pop(name, None)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def token(self) -> str:
        return (self.folder.path / "data" / "token").read_text().strip()

    def start(self) -> None:
        """Start it, and wait until it takes requests."""
        with (self.folder.path / "server.log").open("ab") as log:
            self._process = self.folder.start(
                "server", "--data-dir", "data", "--port", str(self._port), stderr=log, stdout=subprocess.PIPE
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b"ready: "):
                assert line.decode().split()[1] == self.url
                return
        raise AssertionError((self.folder.path / "server.log").read_text())

    def kill(self) -> None:
        """End it at once."""
        assert self._process is not None
        self._process.kill()
        self._wait()

    def stop(self) -> int:
        """End it in good order; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._wait()

    def close(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            self._wait()

    def _wait(self) -> int:
        assert self._process is not None
        try:
            code = self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._process = None
        return code

    def run(self, *arguments: str, stdin: bytes = b"") -> Finished:
        """Run the command to its end."""
        return self.folder.run(*arguments, stdin=stdin)

    def json(self, *arguments: str) -> Any:
        """The answer of a command with `--json`, which must go well."""
        import json

        done = self.run(*arguments, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)
