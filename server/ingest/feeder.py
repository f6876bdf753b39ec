"""What feeders have in common: a thread, failures that are tried again, and appends that are made once.

A feeder appends what it reads with the place behind it, in one record of the journal. Whatever happens, it goes on from
the last place that the journal holds: nothing is lost, nothing is there twice.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from ostinato.cep.connectors.base import BadRecord, ConnectorError
from ostinato.patterns.ast import Stream
from ostinato.server.journal import (
    Journal,
    JournalBusyError,
    JournalClosedError,
    JournalFailedError,
    JournalFullError,
)

DeadLetters: TypeAlias = Callable[[str, Sequence[BadRecord]], None]
"""Is told of a stream's records that cannot be used, before the journal goes on behind them: once or, after a crash,
again. It is called from the feeder's thread; what it raises is tried again like every failure."""
State: TypeAlias = Literal["new", "reading", "waiting", "ended", "failed", "stopped"]

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_JOURNAL_WAIT_S: Final = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeederStatus:
    """How a feeder does.

    Attributes:
        stream: that it feeds.
        source: what it reads.
        state: `waiting` to try again after a failure; `ended`: all there was is read; `failed`: the journal is.
        rows: appended since it was started.
        bad: records that could not be used since then.
        failures: since then.
        error: the last failure; None once all is well again.
        lag: what is still to be read by lane: offsets of Kafka, bytes of files; as far as it is known.
    """

    stream: str
    source: str
    state: State
    rows: int
    bad: int
    failures: int
    error: str | None
    lag: Mapping[str, int]


class Stopped(Exception):  # noqa: N818 - it is not an error
    """The feeder is to end."""


class Feeder(ABC):
    """Feeds one stream in a thread of its own."""

    def __init__(self, stream: Stream, journal: Journal, dead_letters: DeadLetters, source: str) -> None:
        self.stream = stream
        self._journal = journal
        self._dead_letters = dead_letters
        self._source = source
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._state: State = "new"
        self._rows = self._bad = self._failures = 0
        self._error: str | None = None
        self._lag: Mapping[str, int] = {}
        self._pause_s = _FIRST_PAUSE_S

    def start(self) -> None:
        """Begin, or begin again after `stop`. May be called once in between."""
        assert self._thread is None
        self._stopping.clear()
        self._state = "reading"
        self._thread = threading.Thread(target=self._run, name=f"feeder-{self.stream.name}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End, and wait for it; False where the thread is still held up by what it reads."""
        self._stopping.set()
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout_s)
        if thread.is_alive():
            return False
        self._thread = None
        self._state = "stopped"
        return True

    def status(self) -> FeederStatus:
        """May be asked from any thread."""
        return FeederStatus(
            self.stream.name, self._source, self._state, self._rows, self._bad, self._failures, self._error, self._lag
        )

    @abstractmethod
    def _feed(self) -> None:
        """Open the source where the journal stands, and append until it ends. Raises whatever goes wrong."""

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._feed()
            except Stopped:
                return
            except (JournalClosedError, JournalFailedError) as error:
                self._note(error)
                self._state = "failed"
                return
            except (ConnectorError, OSError) as error:
                self._note(error)
            except Exception as error:
                logger.exception("stream %s: its feeder failed in a way that was not expected", self.stream.name)
                self._note(error)
            else:
                self._state, self._error, self._lag = "ended", None, {}
                return
            self._wait()

    def _note(self, error: Exception) -> None:
        self._failures += 1
        said = str(error) or type(error).__name__
        if said != self._error:
            logger.warning("stream %s: reading %s: %s", self.stream.name, self._source, said)
        self._error = said

    def _wait(self) -> None:
        """Wait before it is tried again; longer each time, until something has worked."""
        self._state = "waiting"
        self._stopping.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._state = "reading"

    def _check_stop(self) -> None:
        """Raises Stopped."""
        if self._stopping.is_set():
            raise Stopped

    def _refuse(self, bad: Sequence[BadRecord]) -> None:
        """Tell of records that cannot be used. Raises what `_append` raises."""
        if bad:
            self._insist(lambda: self._dead_letters(self.stream.name, bad))
            self._bad += len(bad)

    def _append(self, lane: str, data: bytes, rows: int, place: Mapping[str, Any]) -> None:
        """Append, and wait until it is durable. What comes behind must not be appended before: its place would say that
        this was there. Raises Stopped, JournalClosedError, JournalFailedError."""
        name = self.stream.name
        self._insist(
            lambda: self._journal.append(name, data, rows, lane=lane, place=place, wait=_JOURNAL_WAIT_S).result()
        )
        self._rows += rows
        self._error = None
        self._pause_s = _FIRST_PAUSE_S

    def _insist(self, append: Callable[[], object]) -> None:
        """Do this until the journal has room for it."""
        while True:
            self._check_stop()
            try:
                append()
            except JournalBusyError:
                continue  # that has waited already
            except JournalFullError as error:
                self._note(error)
                self._wait()
            else:
                return

    def _places(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Where the stream's lanes of a kind stand."""
        return {
            lane: place
            for (stream, lane), place in self._journal.places().items()
            if stream == self.stream.name and lane.startswith(f"{kind}:")
        }
