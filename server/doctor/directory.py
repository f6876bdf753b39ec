"""Checks of a directory that keeps checkpoints."""

from __future__ import annotations

import os
import re
import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ostinato.server.console import size
from ostinato.server.doctor.findings import Check, Finding, error, note, ok, span, warning
from ostinato.server.doctor.job import Job
from ostinato.server.doctor.reach import TIMEOUT_SECONDS
from ostinato.state.errors import SnapshotError, StoreError
from ostinato.state.stores.directory import LOCK, DirectoryStore
from ostinato.state.stores.process import Owner

REMOTE: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs", "fuse.s3fs", "virtiofs")
)
"""File systems of another machine."""
PASSING: Final = frozenset(("tmpfs", "ramfs"))
"""File systems that are gone when the machine is restarted."""
LAYERED: Final = frozenset(("overlay", "aufs"))
"""File systems of a container, gone with it."""
_PARTITION: Final = "partition-"
"""What the directories of a job's partitions are called, within its own."""
_WRITES: Final = 10
_SYNCS: Final = 6
"""How many times a checkpoint waits for the disk at least: blobs, manifest, their folders."""
_LEAST_FREE: Final = 1 << 30
_NO_ROOM: Final = 64 << 20
_LEAST_INODES: Final = 10_000
_NO_INODES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Held:
    """A store's directory.

    Attributes:
        path: of it.
        job: whose it is to be.
        owner: who has it, or had it last.
        locked: whether that process lives.
        damaged: why the owner's record cannot be read.
    """

    path: Path
    job: str
    owner: Owner | None = None
    locked: bool = False
    damaged: str = ""


@dataclass(frozen=True, slots=True)
class DirectoryFacts:
    """A directory.

    Attributes:
        job: the job whose checkpoints are to be there.
        path: the directory.
        exists: whether it is there; else the rest is about the nearest folder above that is.
        trouble: why nothing can be written there; empty where it can.
        kind: of its file system, such as ``ext4``; empty where nobody knows.
        free_bytes, free_inodes: for us; None where nobody knows.
        sync_ms: how long making 4 KiB durable took, each time.
        held: the directory, and those in it for the partitions of a job, with their owners.
    """

    job: Job
    path: Path
    exists: bool = True
    trouble: str = ""
    kind: str = ""
    free_bytes: int | None = None
    free_inodes: int | None = None
    sync_ms: tuple[float, ...] = ()
    held: tuple[Held, ...] = ()


def gather(job: Job, path: Path, seconds: float = TIMEOUT_SECONDS) -> DirectoryFacts:
    """The facts of a directory; it is not made where there is none. `seconds`: no longer is waited for it."""
    path = path.expanduser().absolute()
    found: list[DirectoryFacts] = []

    def look() -> None:
        found.append(_gather(job, path))

    # a network file system whose server is away answers never, and nothing else can put an end to that
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else DirectoryFacts(job, path, trouble=f"no answer within {seconds:g} s")


def _gather(job: Job, path: Path) -> DirectoryFacts:
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    facts = DirectoryFacts(job, path, path.exists())
    if not nearest.is_dir():
        return replace(facts, trouble=f"{nearest} is no directory")
    with suppress(OSError):
        found = os.statvfs(nearest)
        # some file systems have no such number, and say 0 of 0
        inodes = found.f_favail if found.f_files else None
        facts = replace(facts, free_bytes=found.f_bavail * found.f_frsize, free_inodes=inodes)
    with suppress(OSError):
        facts = replace(facts, kind=_kind(nearest.resolve(), Path("/proc/self/mountinfo").read_text()))
    try:
        facts = replace(facts, sync_ms=_sync_times(nearest))
    except OSError as failed:
        facts = replace(facts, trouble=(failed.strerror or str(failed)).lower())
    return replace(facts, held=tuple(_held(job, path)))


def _held(job: Job, path: Path) -> Iterator[Held]:
    stores = [(path, job.name)]
    with suppress(OSError):
        stores += [(each, f"{job.name}.{each.name.removeprefix(_PARTITION)}") for each in path.glob(f"{_PARTITION}*")]
    for folder, called in sorted(stores):
        try:
            owner = DirectoryStore(folder, called).owner()
        except (SnapshotError, StoreError) as failed:
            yield Held(folder, called, damaged=str(failed))
        else:
            yield Held(folder, called, owner, owner is not None and _is_locked(folder))


def _sync_times(folder: Path) -> tuple[float, ...]:
    """How long it takes to make a small file durable, in ms. Raises OSError."""
    path = folder / f".tmp-{os.getpid()}-doctor-{secrets.token_hex(4)}"
    times = []
    try:
        with path.open("xb", buffering=0) as file:
            for _ in range(_WRITES):
                began = time.perf_counter()
                file.write(b"x" * 4096)
                os.fsync(file.fileno())
                times.append((time.perf_counter() - began) * 1000)
    finally:
        path.unlink(missing_ok=True)
    return tuple(times)


def _is_locked(path: Path) -> bool:
    """Whether a living process has the lock. Trying to take it might keep a job that just starts from it."""
    try:
        found = (path / LOCK).stat()
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        return any(device in line.split() and "FLOCK" in line for line in Path("/proc/locks").read_text().splitlines())
    except OSError:
        return False


def _kind(path: Path, mounts: str) -> str:
    r"""The kind of file system that a path is on, by what ``/proc/self/mountinfo`` says.

    >>> _kind(Path("/data/chk"), "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /data rw shared:1 - nfs4 host:/x rw")
    'nfs4'
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        # of several mounts at one point the last one counts
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def writable(facts: DirectoryFacts) -> Iterator[Finding]:
    """Can checkpoints be written there?"""
    if facts.trouble:
        yield error(
            _subject(facts),
            f"cannot be {'written to' if facts.exists else 'made'}: {facts.trouble}",
            "no checkpoint can be taken",
            f"make it this user's (chown {os.getuid()} ...), look after its disk or mount, or choose another one",
        )
    else:
        yield ok(_subject(facts), "is there and can be written to" if facts.exists else "can be made")


def kind(facts: DirectoryFacts) -> Iterator[Finding]:
    """Is it on a disk of this machine?"""
    found = facts.kind
    if found in REMOTE:
        yield warning(
            _subject(facts),
            f"is on another machine ({found})",
            "whether a lock holds and what is said to be written is written depends on that machine and on how it is "
            "mounted",
            "use a local disk, or a Redis; with NFS: version 4, mounted `hard` and `sync`",
        )
    elif found in PASSING:
        yield warning(
            _subject(facts),
            f"is in memory ({found})",
            "it is gone when the machine is restarted, and all checkpoints with it",
            "choose a directory on a disk",
        )
    elif found in LAYERED:
        yield warning(
            _subject(facts),
            f"is in a container's own layer ({found})",
            "it is gone with the container, and all checkpoints with it",
            "mount a volume there",
        )
    elif found:
        yield ok(_subject(facts), f"file system {found}")
    if facts.job.partitioned:
        yield note(
            _subject(facts),
            "is seen by this machine only, or has to be mounted on all",
            "a partition that moves to a worker on another machine finds no snapshot there, and is replayed",
            "use --checkpoint-redis with workers on several machines",
        )


def room(facts: DirectoryFacts) -> Iterator[Finding]:
    """Is there room?"""
    free, inodes = facts.free_bytes, facts.free_inodes
    if free is None:
        return
    why = "a checkpoint that does not fit fails, and output is not published until one succeeds"
    if free < _NO_ROOM or (inodes is not None and inodes < _NO_INODES):
        yield error(_subject(facts), f"{size(free)} free, {inodes} files", why, "make room on that disk")
    elif free < _LEAST_FREE or (inodes is not None and inodes < _LEAST_INODES):
        yield warning(_subject(facts), f"{size(free)} free, {inodes} files", why, "make room on that disk")
    else:
        yield ok(_subject(facts), f"{size(free)} free")


def speed(facts: DirectoryFacts) -> Iterator[Finding]:
    """Is its disk fast enough for the interval?"""
    if not facts.sync_ms:
        return
    median, worst, interval = statistics.median(facts.sync_ms), max(facts.sync_ms), facts.job.interval_ms
    what = f"fsync takes {median:.1f} ms (the slowest of {len(facts.sync_ms)} {worst:.1f} ms)"
    if _SYNCS * median > interval:
        yield warning(
            _subject(facts),
            f"{what}; a checkpoint waits for {_SYNCS} or more, and the interval is {span(interval)}",
            "checkpoints take longer than the interval",
            f"use a faster disk, or a longer --interval ({round(3 * _SYNCS * median)}ms)",
        )
    else:
        yield ok(_subject(facts), what)


def owners(facts: DirectoryFacts) -> Iterator[Finding]:
    """Whose is it?"""
    for each in facts.held:
        subject, found = f"directory {each.path}", each.owner
        if each.damaged:
            yield error(subject, each.damaged, "the job refuses to use it", "see what it says")
        elif found is not None and found.job != each.job and facts.job.program is not None:
            yield error(
                subject,
                f"has the checkpoints of job {found.job}",
                f"job {each.job} refuses to use it",
                "choose another directory, or say with --name that it is the same job",
            )
        elif found is not None and each.locked:
            yield note(
                subject,
                f"is in use by {found}",
                "a second job on it is refused",
                f"ostinato stop {facts.job.name}, before it is started elsewhere",
            )
        elif found is not None:
            yield ok(subject, f"belongs to job {found.job}, which does not run here")
    if not any(each.owner or each.damaged for each in facts.held):
        yield ok(_subject(facts), "belongs to no job yet")


def _subject(facts: DirectoryFacts) -> str:
    return f"directory {facts.path}"


CHECKS: Final[tuple[Check[DirectoryFacts], ...]] = (
    Check("directory.writable", "it can be written to, or made", writable),
    Check("directory.kind", "it is on a disk of this machine: not NFS or the like, not in memory, no layer", kind),
    Check("directory.room", "free space, and room for more files", room),
    Check("directory.speed", "how long `fsync` takes, against the interval", speed),
    Check("directory.owner", "whose it is, and whether that job runs", owners),
)
