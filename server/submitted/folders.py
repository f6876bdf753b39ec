"""Which files of this machine may be named by what comes over HTTP: those below folders that the configuration has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from ostinato.server.failures import NotAllowedError

_MOST_MATCHES = 100_000
"""A glob that stands for more files than this is refused: each of them is looked at."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders, and the setting that names them, for messages."""

    paths: tuple[Path, ...]
    setting: str

    @staticmethod
    def of(paths: Sequence[str], setting: str) -> Folders:
        """Paths as they are configured."""
        return Folders(tuple(Path(path).expanduser().absolute() for path in paths), setting)

    def check(self, path: str, what: str) -> Path:
        """The real path of a file that may be named, which need not be there.

        Args:
            path: as it was given; absolute.
            what: for messages, as ``stream logins``.

        Raises:
            NotAllowedError: it lies elsewhere, also by way of ``..`` or a symbolic link.
        """
        if "\0" in path:
            raise NotAllowedError(f"{what}: a path has no null in it")
        given = Path(path)
        if ".." in given.parts:
            raise NotAllowedError(f"{what}: {path}: write the path without `..`")
        if not self.paths:
            raise NotAllowedError(
                f"{what}: {path}: the server allows no such files; name their folder in {self.setting} of its "
                "configuration"
            )
        if not given.is_absolute():
            raise NotAllowedError(f"{what}: {path}: write the whole path, one below {self._listed()}")
        try:
            real = given.resolve()
            below = any(real.is_relative_to(folder.resolve()) for folder in self.paths)
        except (OSError, RuntimeError) as error:
            raise NotAllowedError(f"{what}: {path}: {error}") from error
        if not below:
            raise NotAllowedError(f"{what}: {path} is not below {self._listed()} ({self.setting} of the configuration)")
        return real

    def check_glob(self, pattern: str, what: str) -> None:
        """The same of a pattern such as ``/data/logs/*.jsonl``, and of every file that it stands for now."""
        if not has_magic(pattern):
            self.check(pattern, what)
            return
        parts = Path(pattern).parts
        fixed = next(number for number, part in enumerate(parts) if has_magic(part))
        if ".." in parts:
            raise NotAllowedError(f"{what}: {pattern}: write the path without `..`")
        self.check(str(Path(*parts[:fixed])) if fixed else pattern, what)
        found = glob(pattern, recursive=True)  # noqa: PTH207 - what the reader does
        if len(found) > _MOST_MATCHES:
            raise NotAllowedError(f"{what}: {pattern} stands for {len(found)} files; {_MOST_MATCHES} at most")
        for path in found:
            self.check(path, what)

    def _listed(self) -> str:
        return ", ".join(map(str, self.paths))
