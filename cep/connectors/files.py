"""Opening what is read: plain, gzip and zstd files, series of files, and what goes wrong with them."""

from __future__ import annotations

import glob
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ostinato.cep.connectors.base import SourceError, advice
from ostinato.patterns.errors import did_you_mean

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class Stream(Protocol):
    """Bytes that are read from the front."""

    def readinto(self, buffer: Any, /) -> int | None: ...

    def close(self) -> None: ...


class File:
    """A file being read, decompressed where its first bytes say that it is compressed.

    Attributes:
        path: as it was named.
        inode: (device, inode), by which it is known after it was renamed.
        compressed: whether what is read is not what is on the disk.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._raw = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123 - closed by `close`
        except OSError as error:
            raise SourceError(f"cannot read {path}: {advice(error)}") from error
        status = os.fstat(self._raw.fileno())
        self.inode = (status.st_dev, status.st_ino)
        try:
            magic = os.pread(self._raw.fileno(), 4, 0)
        except OSError as error:
            if self._raw.seekable():
                self._raw.close()
                raise SourceError(f"cannot read {path}: {advice(error)}") from error
            magic = b""  # a pipe
        self._stream: Stream = self._raw
        self.compressed = True
        if magic.startswith(_GZIP):
            import gzip

            self._stream = gzip.GzipFile(fileobj=self._raw)
        elif magic == _ZSTD:
            import zstandard

            self._stream = zstandard.ZstdDecompressor().stream_reader(self._raw, read_across_frames=True)
        else:
            self.compressed = False

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer as far as possible; less than all of it only at the end. Raises SourceError."""
        filled = 0
        try:
            while filled < len(buffer):
                count = self._stream.readinto(buffer[filled:])
                if not count:
                    break
                filled += count
        except EOFError as error:
            raise SourceError(f"cannot read {self.path}: the compressed file is cut short; copy it again") from error
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {self._damage(error)}") from error
        except zlib.error as error:
            raise SourceError(f"cannot read {self.path}: {self._damage(error)}") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "zstandard":
                raise
            raise SourceError(f"cannot read {self.path}: {self._damage(error)}") from error
        return filled

    def _damage(self, error: Exception) -> str:
        if isinstance(error, OSError) and error.errno:
            return advice(error)
        return f"the compressed file is damaged ({error}); copy it again"

    def skip(self, count: int) -> int:
        """Pass over `count` bytes; returns how many there were."""
        if not self.compressed:
            size = os.fstat(self._raw.fileno()).st_size
            self._raw.seek(min(count, size))
            return min(count, size)
        scratch = memoryview(bytearray(min(count, 1 << 20)))
        left = count
        while left:
            got = self.readinto(scratch[: min(left, len(scratch))])
            if not got:
                break
            left -= got
        return count - left

    def restart(self) -> None:
        """Go back to the first byte of a file that is not compressed."""
        self._raw.seek(0)

    @property
    def size(self) -> int:
        """Bytes on the disk now."""
        return os.fstat(self._raw.fileno()).st_size

    def close(self) -> None:
        if self._stream is not self._raw:
            self._stream.close()
        self._raw.close()


def is_pattern(target: str) -> bool:
    return glob.has_magic(target)


def find_files(target: str) -> list[str]:
    """The files that a path or a pattern (``*``, ``?``, ``[a-z]``, ``**``) names, in order of their names.

    Raises SourceError where there is none, with the name of one that is nearly called so.
    """
    if not is_pattern(target):
        if Path(target).is_dir():
            raise SourceError(f"cannot read {target}: it is a folder; name its files, such as {target}/*.jsonl")
        if not Path(target).exists():
            raise SourceError(f"cannot read {target}: there is no such file{_nearly(target)}")
        return [target]
    found = sorted(path for path in glob.glob(target, recursive=True) if not Path(path).is_dir())  # noqa: PTH207
    if not found:
        raise SourceError(f"no file matches {target}; check the pattern and the working folder ({Path.cwd()})")
    return found


def _nearly(target: str) -> str:
    folder = Path(target).parent
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return f"; there is no folder {folder}"
    hint = did_you_mean(Path(target).name, names)
    return f"; {hint}" if hint else f" in {folder.absolute()}"


def total_size(paths: Sequence[str]) -> int:
    """Bytes on the disk of all the files, for showing progress."""
    return sum(Path(path).stat().st_size for path in paths if Path(path).is_file())


def unbuffered(stream: Any) -> Any:
    """The raw stream under a standard stream, from which nothing has been read ahead.

    Raises SourceError where there is none.
    """
    if stream is None or stream.closed:
        raise SourceError("cannot read <stdin>: it is closed; name a file")
    raw = getattr(getattr(stream, "buffer", stream), "raw", None)
    return raw if isinstance(raw, io.RawIOBase) else getattr(stream, "buffer", stream)
