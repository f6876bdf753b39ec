"""Telling the user that kernels are being compiled, which on a first start takes a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_spent = 0.0


def seconds_spent() -> float:
    """How long compiling has taken in this process, as far as `on_compile` was asked to watch."""
    return _spent


def on_compile(tell: Callable[[str], None]) -> None:
    """Have `tell` called with the name of each kernel that is about to be compiled; not for those in the cache.

    Call it before the first kernel is run. Imports numba.
    """
    from numba.core import event

    class Listener(event.Listener):
        depth = 0
        began = 0.0

        def on_start(self, started: Any) -> None:
            # What a kernel calls is compiled within it; naming it alone is enough.
            if self.depth == 0:
                self.began = time.monotonic()
                tell(started.data["dispatcher"].py_func.__name__)
            self.depth += 1

        def on_end(self, _: Any) -> None:
            global _spent
            self.depth -= 1
            if self.depth == 0:
                _spent += time.monotonic() - self.began

    register: Any = event.register
    register("numba:compile", Listener())
