"""What can go wrong with the match log."""

from __future__ import annotations


class MatchLogError(Exception):
    """The common base: the log cannot be read or written."""


class MatchLogBusyError(MatchLogError):
    """Another process writes the log."""


class MatchLogFullError(MatchLogError):
    """There is no room on the disk. The log is as it was before; the same may be tried again."""


class MatchLogDamagedError(MatchLogError):
    """Bytes that were durable are missing or were changed."""


class MatchesGoneError(MatchLogError):
    """What should be read next is not in the log any more.

    Attributes:
        seq: the first that was wanted.
        first_seq: the first that there is from there on.
    """

    def __init__(self, seq: int, first_seq: int) -> None:
        super().__init__(
            f"matches {seq} to {first_seq - 1} are not in the log any more (matches.retain_bytes and "
            f"matches.retain_hours say how long they are kept); it goes on with {first_seq}"
        )
        self.seq = seq
        self.first_seq = first_seq
