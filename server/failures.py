"""How services say no. They know nothing of HTTP; `http/problems.py` gives each its status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong in what was sent; lines and columns count from 1, `path` is JSON's (``$.items[3].k``)."""

    message: str
    hint: str | None = None
    path: str | None = None
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None


class ServiceError(Exception):
    """Something cannot be done; the message says what, where, and what to do."""

    def __init__(self, message: str, flaws: Sequence[Flaw] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.flaws = tuple(flaws)


class NotThereError(ServiceError):
    """What is asked for does not exist."""


class MalformedError(ServiceError):
    """What was sent is not what it says it is: no JSON, no gzip."""


class RefusedError(ServiceError):
    """What was sent can be read, and cannot be done: a pattern that is wrong, an event that does not fit its stream."""


class ConflictError(ServiceError):
    """It cannot be done as things stand: the stream is used by patterns, the pattern is paused already."""


class StaleError(ServiceError):
    """It was changed since the caller looked (If-Match), or is there already (If-None-Match: *)."""


class TooLargeError(ServiceError):
    """What was sent is larger than a limit allows."""


class TooManyError(ServiceError):
    """It comes too fast. `retry_after`: seconds after which it may be tried again."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotAllowedError(ServiceError):
    """The configuration does not allow it: a file outside the folders, a private address."""


class NotReadyError(ServiceError):
    """It cannot be done just now: starting, ending, the disk full. `retry_after`: seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
