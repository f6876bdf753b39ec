"""Who owns a store: a process, as it can be named to people, and as its end can be noticed by others."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """A store's owner.

    Attributes:
        job: the job that the store belongs to.
        token: the fencing token.
        owner: who it is, in the owner's own words.
        host, pid: the process that took it.
        since: when, for people.
        process: the same process, so that it is not taken for another one that got its id later; see `identity`.
        format: of the store's layout.
    """

    job: str
    token: int
    owner: str
    host: str
    pid: int
    since: str
    process: str
    format: int = 1

    @staticmethod
    def this_process(job: str, token: int, owner: str) -> Owner:
        now = time.strftime("%Y-%m-%d %H:%M:%S %z")
        return Owner(job, token, owner, socket.gethostname(), os.getpid(), now, identity(os.getpid()))

    def __str__(self) -> str:
        said = f" ({self.owner})" if self.owner else ""
        return f"process {self.pid} on {self.host}{said}, job {self.job}, since {self.since}"

    def has_ended(self) -> bool:
        """Is it certain that the process lives no more? Only ever so for processes that would be seen from here."""
        boot, namespace, _ = self.process.split("/") if self.process.count("/") == 2 else ("", "", "")
        mine = identity(os.getpid()).split("/")
        return bool(boot) and [boot, namespace] == mine[:2] and identity(self.pid) != self.process


def identity(pid: int) -> str:
    """``boot/namespace/start``: no other process of any machine has the same. Empty parts where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return "//"
    try:
        # the name in brackets may contain anything; the other fields come behind it
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return f"{boot}/{namespace}/"
    # a zombie has ended, whoever has not yet asked for its exit code
    start = "" if fields[0] in "ZX" else f"{pid}:{fields[19]}"
    return f"{boot}/{namespace}/{start}"


def next_token(last: int) -> int:
    """A token larger than every one before, even if the store has lost the last one."""
    return max(last + 1, int(time.time()))
