"""Streams that are declared with a source are fed from it, into the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ostinato.cep.connectors.base import BadRecord, ConnectorError
from ostinato.patterns.ast import Stream
from ostinato.server.catalog.definitions import Body
from ostinato.server.changes.texts import stream_in
from ostinato.server.failures import NotAllowedError, RefusedError
from ostinato.server.ingest.feeder import Feeder
from ostinato.server.ingest.file_feeder import FileFeeder
from ostinato.server.ingest.gate import check_stream
from ostinato.server.ingest.kafka_feeder import KafkaFeeder
from ostinato.server.journal import Journal
from ostinato.server.submitted.folders import Folders
from ostinato.server.submitted.programs import SECRETS, check_kafka

_log = logging.getLogger("ostinato.feeding")


class Feeding:
    """The feeders of all streams. Its methods block, for as long as a feeder takes to end."""

    def __init__(
        self, journal: Journal, dead_letters: Callable[[str, Sequence[BadRecord]], None], read_folders: Sequence[str]
    ) -> None:
        self._journal = journal
        self._dead_letters = dead_letters
        self._folders = Folders.of(read_folders, "files.read")
        self._feeders: dict[str, tuple[str, Feeder]] = {}
        self.errors: dict[str, str] = {}
        """Streams that cannot be fed, and why."""

    def check(self, stream: Stream) -> None:
        """Refuse a declaration that cannot be fed. Raises NotAllowedError, RefusedError."""
        try:
            check_stream(stream)
        except ConnectorError as error:
            raise RefusedError(str(error)) from error
        source, what = stream.source, f"stream {stream.name}"
        if source is None:
            return
        if source.kind == "kafka":
            check_kafka(source, what, self._folders)
            for option in SECRETS:
                # a declaration is shown to everyone who may look
                if not str(dict(source.options).get(option, "file:")).startswith("file:"):
                    raise NotAllowedError(f"{what}: {option} is shown with the declaration; write 'file:PATH'")
            return
        if source.kind != "file":
            raise RefusedError(
                f"{what}: `from {source.kind}` is nothing that a server can read; use kafka "
                "or file, or nothing, and send events by HTTP"
            )
        if source.target is None:
            raise RefusedError(f"{what}: `from file` needs a path")
        self._folders.check_glob(source.target, what)

    def use(self, body: Body) -> None:
        """Streams are declared like this from now on."""
        wanted = {name: stream.text for name, stream in body.definitions.streams.items()}
        for name, (text, feeder) in list(self._feeders.items()):
            if wanted.get(name) != text:
                if not feeder.stop():
                    _log.warning("stream %s: its feeder is held up, and ends when it can", name)
                del self._feeders[name]
        self.errors = {name: said for name, said in self.errors.items() if name in wanted}
        for name, text in wanted.items():
            stream = stream_in(text)
            if stream.source is None or name in self._feeders:
                continue
            try:
                self.check(stream)
                kind = KafkaFeeder if stream.source.kind == "kafka" else FileFeeder
                feeder = kind(stream, self._journal, self._dead_letters)
            except (ConnectorError, NotAllowedError, RefusedError) as error:
                self.errors[name] = str(error)
                _log.error("stream %s cannot be fed: %s", name, error)
                continue
            feeder.start()
            self._feeders[name] = (text, feeder)

    def lanes(self, stream: str) -> Mapping[str, Any]:
        """Of a stream, lane -> ``lag`` and ``error``; under its source where no lane is known."""
        held = self._feeders.get(stream)
        if held is None:
            return {self.errors[stream]: {"lag": None, "error": self.errors[stream]}} if stream in self.errors else {}
        status = held[1].status()
        found = {lane: {"lag": lag, "error": status.error} for lane, lag in status.lag.items()}
        return found or {status.source: {"lag": None, "error": status.error}}

    def statuses(self) -> dict[str, Any]:
        """Of every feeder."""
        return {name: feeder.status() for name, (_, feeder) in self._feeders.items()}

    def close(self) -> None:
        for _, feeder in self._feeders.values():
            feeder.stop()
        self._feeders.clear()
