"""How the journal is kept."""

from __future__ import annotations

import msgspec


class JournalOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a `Journal`."""

    segment_bytes: int = 64 << 20
    """A segment that has come to this size is followed by another one."""
    record_bytes: int = 1 << 20
    """Appends are joined to one record up to this size; a larger one is a record of its own."""
    group_bytes: int = 8 << 20
    """What is written with one write and one fsync, at most; a larger append is a group of its own."""
    queue_bytes: int = 64 << 20
    """What may wait in memory; more is refused with `JournalBusyError`."""
    key_window_ms: int = 24 * 3600 * 1000
    """How long idempotency keys are known."""
    max_keys: int = 1_000_000
    """How many idempotency keys are known; about 200 bytes of memory each. The oldest is forgotten first."""
    retain_bytes: int | None = None
    """`Journal.retain` keeps no more than the segments that hold the last so many bytes. None: no bound."""
    retain_ms: int | None = 7 * 24 * 3600 * 1000
    """`Journal.retain` drops segments whose last record is older than this. None: no bound."""

    def __post_init__(self) -> None:
        for name in ("segment_bytes", "record_bytes", "group_bytes", "queue_bytes", "max_keys"):
            if getattr(self, name) < 1:
                raise ValueError(f"journal option {name} must be at least 1, not {getattr(self, name)}")
        for name in ("key_window_ms", "retain_bytes", "retain_ms"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"journal option {name} must not be negative")
