"""Telling the user that kernels are being compiled, which on a first start takes a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def on_compile(tell: Callable[[str], None]) -> None:
    """Have `tell` called with the name of each kernel that is about to be compiled; not for those in the cache.

    Call it before the first kernel is run. Imports numba.
    """
    from numba.core import event

    class Listener(event.Listener):
        depth = 0

        def on_start(self, started: Any) -> None:
            # What a kernel calls is compiled within it; naming it alone is enough.
            if self.depth == 0:
                tell(started.data["dispatcher"].py_func.__name__)
            self.depth += 1

        def on_end(self, _: Any) -> None:
            self.depth -= 1

    register: Any = event.register
    register("numba:compile", Listener())
