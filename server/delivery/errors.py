"""What can go wrong with outputs."""

from __future__ import annotations


class OutputError(Exception):
    """An output cannot be as it was asked for. The message says what to change."""


class RetryError(Exception):
    """It did not go out; it may later.

    Attributes:
        after_seconds: the target asks for at least so long a pause; None: it says nothing.
    """

    def __init__(self, message: str, after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class RefusedError(Exception):
    """The target will never take it as it is.

    Attributes:
        is_one: it may be one match only that it does not take: they are tried one by one.
    """

    def __init__(self, message: str, *, is_one: bool = False) -> None:
        super().__init__(message)
        self.is_one = is_one


class BrokenError(Exception):
    """The output cannot go on before somebody has looked after it."""
