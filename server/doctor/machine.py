"""Checks of this machine."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ostinato.cep.jit import cache_dir
from ostinato.server.console import size
from ostinato.server.doctor.findings import Check, Finding, error, ok, warning
from ostinato.server.doctor.job import Job

PACKAGES: Final = {"aiokafka": "to speak with Kafka", "cramjam": "for compressed records"}
_OWN_FILES: Final = 100
"""Those of an interpreter with its libraries, and some to spare."""
_PER_PARTITION: Final = 8
"""A task has a producer, connections of its store, and files of its state."""
_LEAST_FREE: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """The machine that the command runs on.

    Attributes:
        job: the job that is to run here.
        partitions: of its input, as many as one worker may get.
        brokers: how many there are to be connected to.
        kafka: whether anything is to do with Kafka.
        missing: packages that are not installed.
        files, files_most: how many files a process may open: now, and if it asks for it.
        cache: where compiled kernels are kept.
        cache_trouble: why nothing can be written there.
        cache_free: bytes.
    """

    job: Job
    partitions: int = 0
    brokers: int = 0
    kafka: bool = False
    missing: frozenset[str] = frozenset()
    files: int = 1 << 20
    files_most: int = 1 << 20
    cache: Path = Path()
    cache_trouble: str = ""
    cache_free: int | None = None


def gather(job: Job, *, partitions: int = 0, brokers: int = 0, kafka: bool = False) -> MachineFacts:
    """The facts of this machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    cache = cache_dir()
    nearest = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    trouble, free = "", None
    try:
        with tempfile.TemporaryFile(dir=nearest):
            free = shutil.disk_usage(nearest).free
    except OSError as failed:
        trouble = (failed.strerror or str(failed)).lower()
    return MachineFacts(
        job,
        partitions,
        brokers,
        kafka,
        frozenset(name for name in PACKAGES if find_spec(name) is None),
        _unlimited(soft),
        _unlimited(hard),
        cache,
        trouble,
        free,
    )


def _unlimited(limit: int) -> int:
    return 1 << 62 if limit == resource.RLIM_INFINITY else limit


def packages(facts: MachineFacts) -> Iterator[Finding]:
    """Is installed what is needed?"""
    if not facts.kafka:
        return
    for name, purpose in PACKAGES.items():
        if name in facts.missing:
            yield error(
                f"package {name}", "is not installed", f"it is needed {purpose}", "pip install 'ostinato[kafka]'"
            )
        else:
            yield ok(f"package {name}", "is installed")


def files(facts: MachineFacts) -> Iterator[Finding]:
    """May enough files be open at once?"""
    needed = _OWN_FILES + facts.partitions * (_PER_PARTITION + facts.brokers)
    what = f"a process may open {facts.files:,} files"
    if facts.files < needed:
        yield warning(
            "this machine",
            f"{what}, and {needed:,} may be needed for {facts.partitions} partition(s)",
            "a worker that has to take over the partitions of others fails",
            f"ulimit -n {needed}"
            + (" (as root, or in /etc/security/limits.conf)" if facts.files_most < needed else "")
            + f", or LimitNOFILE={needed} in its systemd unit",
        )
    else:
        yield ok("this machine", f"{what}; {needed:,} may be needed")


def cache(facts: MachineFacts) -> Iterator[Finding]:
    """Can compiled kernels be kept?"""
    if facts.cache_trouble:
        yield warning(
            "this machine",
            f"the cache of kernels, {facts.cache}, cannot be written to: {facts.cache_trouble}",
            "kernels are compiled anew at every start, which takes a minute, also when a worker is to take over",
            f"make it this user's (chown {os.getuid()} {facts.cache}), or set OSTINATO_CACHE_DIR to another folder",
        )
    elif facts.cache_free is not None and facts.cache_free < _LEAST_FREE:
        yield warning(
            "this machine",
            f"{size(facts.cache_free)} free for the cache of kernels, {facts.cache}",
            "kernels are compiled anew at every start if they do not fit",
            "make room on that disk, or set OSTINATO_CACHE_DIR to another folder",
        )
    else:
        yield ok("this machine", f"the cache of kernels, {facts.cache}, can be written to")


CHECKS: Final[tuple[Check[MachineFacts], ...]] = (
    Check("machine.packages", "`aiokafka` and `cramjam` are installed, where Kafka is used", packages),
    Check("machine.files", "the limit of open files (`ulimit -n`) against the number of partitions", files),
    Check("machine.cache", "the cache of compiled kernels can be written to", cache),
)
