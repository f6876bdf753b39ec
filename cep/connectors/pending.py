"""A file of lines that are seen when a checkpoint has completed.

1. Lines go to a *pending file* beside the target, ``.NAME.ostinato-pending-ATTEMPT-NUMBER``.
2. `prepare` makes it durable and closes it; what comes later goes to the next one.
3. `commit` appends the pending files to the target, makes that durable, then deletes them.
4. `recover` does what `commit` had not done, and cuts off the target what came later.

The place of each byte in the target is known when it is written to a pending file. So a publication that was
interrupted is simply done again, over what there is of it: a reader of the target never sees a byte change.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.cep.connectors.base import SinkError
from ostinato.cep.connectors.output import BUFFER_BYTES
from ostinato.cep.connectors.room import Room, failing, sync, sync_folder
from ostinato.state.steps import reached

_TAIL_BYTES = 4096
"""So much of the end of what was published is compared on recovery, to know the file again."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A pending file that is durable; it belongs at `begin` in the target."""

    name: str
    begin: int
    size: int

    @property
    def end(self) -> int:
        return self.begin + self.size


class PendingFile:
    """Takes whole lines for a target. `recover` comes first."""

    def __init__(self, path: str, room: Room, *, append: bool = False, when_needed: bool = False) -> None:
        """Touches nothing.

        Args:
            path: of the target.
            room: waits for room on a full disk.
            append: at the very start, what the target holds is kept.
            when_needed: the target is made with its first line, else at the start.

        Raises:
            SinkError: there is no such folder.
        """
        self.path = os.path.realpath(path)
        self._said = path
        self._folder, self._base_name = os.path.split(self.path)
        if not Path(self._folder).is_dir():
            raise SinkError(f"cannot write {path}: there is no folder {Path(path).parent}; make it first")
        self._room = room
        self._append = append
        self._when_needed = when_needed
        self._prefix = f".{self._base_name}.ostinato-pending-"
        self._attempt = secrets.token_hex(4)
        self._number = 0
        self._target: int | None = None
        self._kept: int | None = None
        self._published = 0
        self._sealed: list[_Segment] = []
        self._current: int | None = None
        self._current_name = ""
        self._current_size = 0
        self._held: list[bytes] = []
        self._held_bytes = 0

    @property
    def clean(self) -> bool:
        """Has everything been published?"""
        return not (self._sealed or self._current_size or self._held_bytes)

    def write(self, lines: bytes) -> None:
        """Take whole lines."""
        if lines:
            self._held.append(lines)
            self._held_bytes += len(lines)
            if self._held_bytes >= BUFFER_BYTES:
                self._drain()

    def flush(self) -> None:
        """Do nothing: nobody can see pending lines, and memory is bounded anyway."""

    def prepare(self) -> dict[str, Any]:
        """Make all lines so far durable. Returns what `commit` and `recover` need."""
        reached("sink.prepare")
        self._drain()
        self._seal()
        state = {
            "path": self.path,
            "published": self._published,
            "end": self._sealed[-1].end if self._sealed else self._published,
            "tail": self._tail(self._published),
            "pending": [[segment.name, segment.size] for segment in self._sealed],
        }
        reached("sink.prepared")
        return state

    def commit(self, state: Mapping[str, Any]) -> None:
        """Publish what was prepared. Doing so again changes nothing."""
        reached("sink.publish")
        if state["end"] > self._published:
            with failing(self._said):
                self._check_target()
                self._publish([each for each in _segments(state) if each.end > self._published])
            self._sealed = [each for each in self._sealed if each.begin >= state["end"]]
        reached("sink.published")

    def recover(self, state: Mapping[str, Any] | None, head: bytes = b"") -> None:
        """Begin, or begin again.

        Args:
            state: of the checkpoint that the job goes on from, None for none.
            head: what a new file begins with, where the one of the checkpoint is gone.

        Raises:
            SinkError: the target is not the file that the checkpoint knows.
        """
        with failing(self._said):
            self._forget()
            try:
                if state is None:
                    self._begin()
                else:
                    self._go_on(state, head)
                self._sweep()
            except BaseException:
                self._forget()  # a file that is kept open stays locked
                raise
        reached("sink.recovered")

    def close(self) -> None:
        """Let go of everything. What was prepared stays: the checkpoint may have completed without our knowing."""
        with failing(self._said):
            self._forget()

    # writing

    def _drain(self) -> None:
        if not self._held:
            return
        data = b"".join(self._held)
        if self._current is None:
            self._number += 1
            self._current_name = f"{self._prefix}{self._attempt}-{self._number}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._current = self._room.open(self._said, self._beside(self._current_name), flags)
        self._room.write(self._said, self._current, data, self._current_size)
        self._current_size += len(data)
        self._held, self._held_bytes = [], 0

    def _seal(self) -> None:
        if self._current is None:
            return
        sync(self._said, self._current)
        os.close(self._current)
        self._current = None
        sync_folder(self._said, self._folder)
        begin = self._sealed[-1].end if self._sealed else self._published
        self._sealed.append(_Segment(self._current_name, begin, self._current_size))
        self._current_size = 0

    # publishing

    def _publish(self, segments: list[_Segment]) -> None:
        """Put pending files where they belong in the target, then delete them."""
        assert self._target is not None
        left = sum(segment.size for segment in segments)
        half = left - max(1, left // 2)
        for segment in segments:
            source = os.open(self._beside(segment.name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                at = 0
                while at < segment.size:
                    size = min(segment.size - at, left - half if left > half else left)
                    self._room.copy(self._said, source, at, self._target, segment.begin + at, size)
                    at, left = at + size, left - size
                    if left == half:
                        reached("sink.publishing")
            finally:
                os.close(source)
        sync(self._said, self._target)
        self._published = max(self._published, segments[-1].end)
        reached("publish.file")
        for segment in segments:
            Path(self._beside(segment.name)).unlink(missing_ok=True)

    def _check_target(self) -> None:
        """Open the target where it is only made now; else see that it is still the file of that name."""
        if self._target is None:
            self._open_target()
            self._cut(self._published)
            return
        try:
            in_place = os.path.samestat(os.stat(self.path), os.fstat(self._target))  # noqa: PTH116
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise SinkError(
                f"cannot write {self._said}: it was moved or removed while the job was writing to it; "
                "put it back, or resume the job, which goes on in a new file"
            )

    # recovery

    def _begin(self) -> None:
        """Nothing has been published yet."""
        exists = Path(self.path).exists()
        if self._kept is None:
            # once: a job that is begun again in this process must not keep what it has written itself
            self._kept = Path(self.path).stat().st_size if exists and self._append else 0
        self._published = self._kept
        if exists and self._append:
            self._open_target()
            self._cut(self._kept)
        elif not self._when_needed:
            self._open_target()
            self._cut(0)

    def _go_on(self, state: Mapping[str, Any], head: bytes) -> None:
        segments = _segments(state)
        self._published = state["published"]
        there = [segment for segment in segments if self._is_there(segment)]
        if self._when_needed and state["end"] == 0:
            self._remove()
            return
        if not Path(self.path).exists() and (self._published or len(there) < len(segments)):
            self._start_over(state, there, head)
            return
        self._open_target()
        assert self._target is not None
        size = os.fstat(self._target).st_size
        needed = max([self._published, *(each.end for each in segments if each not in there)])
        if size < needed:
            raise SinkError(
                f"cannot go on with {self._said}: it has {size} bytes, and had {needed} when the checkpoint was taken; "
                "put back the file as it was, or move it away to have the job go on in a new one"
            )
        if self._tail(self._published) != state["tail"]:
            raise SinkError(
                f"cannot go on with {self._said}: its first {self._published} bytes are not those that were written "
                "before the checkpoint; put back the file as it was, or move it away to go on in a new one"
            )
        if there:
            self._publish(there)
        if size > state["end"]:
            self._room.say(f"{self._said}: {size - state['end']} bytes that came after the checkpoint are taken back")
        self._cut(state["end"])

    def _start_over(self, state: Mapping[str, Any], there: list[_Segment], head: bytes) -> None:
        """The target is gone: what it held is, too."""
        lost = state["end"] - sum(segment.size for segment in there)
        self._room.say(f"{self._said} is gone, with {lost} bytes that the checkpoint knows of; going on in a new file")
        self._open_target()
        assert self._target is not None
        self._room.write(self._said, self._target, head, 0)
        self._published, moved = len(head), list[_Segment]()
        for segment in there:
            moved.append(_Segment(segment.name, moved[-1].end if moved else len(head), segment.size))
        if moved:
            self._publish(moved)
        sync(self._said, self._target)

    def _remove(self) -> None:
        """No line belongs into the target, so it should not be there."""
        if Path(self.path).exists():
            size = Path(self.path).stat().st_size
            self._room.say(f"{self._said}: {size} bytes that came after the checkpoint are taken back")
            Path(self.path).unlink()
            sync_folder(self._said, self._folder)

    def _is_there(self, segment: _Segment) -> bool:
        try:
            found = Path(self._beside(segment.name)).stat().st_size
        except FileNotFoundError:
            return False  # published before, or lost: the target's length tells
        if found != segment.size:
            raise SinkError(
                f"cannot go on with {self._said}: its pending file {segment.name} has {found} bytes instead of "
                f"{segment.size}; an older checkpoint may do"
            )
        return True

    def _open_target(self) -> None:
        is_new = not Path(self.path).exists()
        self._target = self._room.open(self._said, self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(self._target)
                self._target = None
                raise SinkError(
                    f"cannot write {self._said}: another process writes to it; end that one, or name another file"
                ) from error
        if is_new:
            sync_folder(self._said, self._folder)

    def _cut(self, size: int) -> None:
        assert self._target is not None
        self._published = size
        if os.fstat(self._target).st_size > size:
            os.ftruncate(self._target, size)
            sync(self._said, self._target)

    def _tail(self, end: int) -> int:
        """CRC-32 of the last bytes before `end` in the target."""
        if self._target is None or not end:
            return 0
        begin = max(0, end - _TAIL_BYTES)
        return zlib.crc32(os.pread(self._target, end - begin, begin))

    def _sweep(self) -> None:
        """Delete pending files that belong to nothing that can still be published."""
        for path in Path(self._folder).iterdir():
            if path.name.startswith(self._prefix):
                path.unlink(missing_ok=True)

    def _forget(self) -> None:
        """Drop what is not prepared, and close everything."""
        if self._current is not None:
            os.close(self._current)
            with contextlib.suppress(OSError):
                Path(self._beside(self._current_name)).unlink()
        if self._target is not None:
            os.close(self._target)
        self._current = self._target = None
        self._current_size = self._held_bytes = 0
        self._held, self._sealed = [], []

    def _beside(self, name: str) -> str:
        return os.path.join(self._folder, name)  # noqa: PTH118


def _segments(state: Mapping[str, Any]) -> list[_Segment]:
    made, at = [], state["published"]
    for name, size in state["pending"]:
        made.append(_Segment(name, at, size))
        at += size
    return made
