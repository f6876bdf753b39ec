"""Waiting for what other threads have, while signals come."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from queue import Empty

import pytest

from ostinato.cep.runtime.inbox import Inbox

INTERRUPTED = """
import os, queue, signal, sys, threading, time
from ostinato.cep.runtime.inbox import Inbox

signal.signal(signal.SIGUSR1, lambda *_: time.sleep(0.2))
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
try:
    Inbox().get(timeout=0.1)
except queue.Empty:
    print("empty")
"""


def test_first_in_first_out() -> None:
    inbox: Inbox[int] = Inbox()
    for number in range(3):
        inbox.put(number)
    assert [inbox.get(), inbox.get(1.0), inbox.get()] == [0, 1, 2]
    with pytest.raises(Empty):
        inbox.get()


def test_waiting_ends_when_something_comes() -> None:
    inbox: Inbox[str] = Inbox()
    threading.Timer(0.05, inbox.put, ("there",)).start()
    assert inbox.get(30.0) == "there"


def test_waiting_ends_in_time() -> None:
    inbox: Inbox[str] = Inbox()
    inbox.put("before")
    inbox.get()
    began = time.monotonic()
    with pytest.raises(Empty):
        inbox.get(0.05)
    assert time.monotonic() - began >= 0.05


def test_nothing_is_lost_between_many_threads() -> None:
    inbox: Inbox[tuple[int, int]] = Inbox()

    def put(thread: int) -> None:
        for number in range(2_000):
            inbox.put((thread, number))

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    got = [inbox.get(10.0) for _ in range(8_000)]
    assert sorted(got) == [(each, number) for each in range(4) for number in range(2_000)]
    for wanted in range(4):
        assert [number for owner, number in got if owner == wanted] == list(range(2_000))


def test_a_signal_whose_handler_takes_longer_than_the_wait() -> None:
    """Seen to fail with `queue.SimpleQueue`, which then waits for ever: a worker did not hear SIGTERM, if nothing more
    came to it from Kafka."""
    command = [sys.executable, "-c", INTERRUPTED]
    process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (process.returncode, process.stdout) == (0, "empty\n"), process.stderr
