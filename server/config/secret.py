"""A value that is used and never shown."""

from __future__ import annotations

import hmac

HIDDEN = "***"
"""What is shown instead."""


class Secret:
    """A text that no message, log, JSON document or traceback shows: `reveal` is the only way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for whoever is about to use it."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> str:
        # what is copied to another process would be written down on its way
        raise TypeError("a secret is not copied to other processes; name its file or variable instead")
