"""How a process of the server shares the interpreter between its threads, and when it looks for garbage."""

from __future__ import annotations

import gc
import sys
from typing import Final

from ostinato.cep.runtime.memory import collect_less_often

_SWITCH_SECONDS: Final = 0.0005
"""So long a thread that comes back from the disk or a socket waits for one that computes. By default ten times that,
which is more than all else that an event waits for."""


def be_quick() -> None:
    """Call it first thing in the process."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    collect_less_often()


def keep_what_is_here() -> None:
    """Call it once all is set up: modules and what the server is made of are not looked at again."""
    gc.collect()
    gc.freeze()
