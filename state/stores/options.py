"""How a checkpoint store is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Settings of a store; a directory needs none of them.

    Attributes:
        durability: "proven": a Redis that cannot prove that what it takes survives a crash is refused; "lowered": it
            is used all the same, and what that means is said loudly.
        timeout_seconds: for an answer to each batch of commands.
        lease_seconds: an owner that has not been heard of for so long is taken for dead.
    """

    durability: Literal["proven", "lowered"] = "proven"
    timeout_seconds: float = 30.0
    lease_seconds: float = 10.0
