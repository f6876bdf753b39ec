"""What is said of an output: JSON, with `type` webhook, kafka or file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

import msgspec

from ostinato.server.delivery.errors import OutputError
from ostinato.server.matches import Filter, Kind
from ostinato.state.typed import convert, decode_json

if TYPE_CHECKING:
    from ostinato.cep.connectors.kafka.options import Connection

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
SECRET: Final = "secret:"  # noqa: S105 - none itself
"""Stands before the name of a secret where its value is meant."""
_OWN_HEADERS: Final = frozenset(
    ("host", "content-length", "content-type", "transfer-encoding", "connection", "idempotency-key",
     "ostinato-signature", "user-agent", "accept-encoding", "expect", "upgrade", "te", "trailer")
)  # fmt: skip
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")


class OutputBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """Which rows go out; empty lists are all. `start`: with the oldest match that is kept, or with the next."""

    streams: list[str] = []
    patterns: list[str] = []
    kinds: list[Kind] = msgspec.field(default_factory=lambda: ["match"])
    start: Literal["earliest", "latest"] = "latest"
    paused: bool = False

    @property
    def wanted(self) -> Filter:
        return Filter(frozenset(self.streams), frozenset(self.patterns), frozenset(self.kinds))


class WebhookOutput(OutputBase, frozen=True, tag="webhook", kw_only=True):
    """Each match is POSTed, or with `batch` an array of up to as many.

    `secret` names one of `webhooks.secrets`, with which requests are signed; the value of a header may be
    ``secret:NAME``. `max_attempts`: then it becomes a dead letter (null: it is tried for ever). `on_refused`: what
    becomes of one that the target answers with 4xx. `timeout_ms`: for the whole of an answer.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://", max_length=2000)]
    secret: str | None = None
    headers: dict[str, str] = {}
    batch: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    max_attempts: Annotated[int, msgspec.Meta(ge=1)] | None = None
    on_refused: Literal["dead_letter", "stop"] = "dead_letter"
    timeout_ms: Annotated[int, msgspec.Meta(ge=100, le=600_000)] | None = None


class KafkaOutput(OutputBase, frozen=True, tag="kafka", kw_only=True):
    """Matches go to a topic, each once, of the configuration's Kafka where no other is named; `key` is a field of the
    match's row."""

    topic: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    key: str | None = None
    bootstrap_servers: str | None = None
    compression_type: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    on_refused: Literal["dead_letter", "stop"] = "dead_letter"


class FileOutput(OutputBase, frozen=True, tag="file", kw_only=True):
    """Matches are appended to a file as lines of JSON, each once, within the folders of `files.write`."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


OutputSettings: TypeAlias = WebhookOutput | KafkaOutput | FileOutput


@dataclass(frozen=True, slots=True)
class OutputContext:
    """What the server's configuration says about all outputs.

    Attributes:
        server: its id, with which those of matches begin.
        matches: the folder of the match log.
        folder: where outputs keep what is theirs: dead letters, lengths of files.
        secret: a secret by its name, None where there is none.
        allow_private: whether webhooks may go to this machine and to private networks.
        timeout_ms: of an answer to a webhook, where it does not say.
        write_folders: where files may be written.
        kafka: the Kafka that is meant where no other is named; None: there is none.
        agent: of webhooks.
    """

    server: str
    matches: Path
    folder: Path
    secret: Callable[[str], str | None] = lambda _: None
    allow_private: bool = False
    timeout_ms: int = 10_000
    write_folders: tuple[Path, ...] = ()
    kafka: Connection | None = None
    agent: str = "ostinato"


def parse_settings(given: bytes | Mapping[str, Any]) -> OutputSettings:
    """Settings from JSON, or what JSON was made to. Raises OutputError."""
    try:
        if isinstance(given, bytes):
            return cast(OutputSettings, decode_json(given, OutputSettings))
        return cast(OutputSettings, convert(dict(given), OutputSettings))
    except msgspec.MsgspecError as error:
        raise OutputError(f"output: {error}") from None


def check_settings(name: str, settings: OutputSettings, context: OutputContext) -> None:
    """Refuse what cannot work, as far as that can be seen without trying it. Raises OutputError."""
    if not NAME.fullmatch(name):
        raise OutputError(f"output {name!r}: a name has letters, digits, _ . - and begins with a letter or _")
    match settings:
        case WebhookOutput():
            _check_webhook(name, settings, context)
        case KafkaOutput():
            connection_of(name, settings, context)
        case FileOutput():
            file_of(name, settings, context)


def connection_of(name: str, settings: KafkaOutput, context: OutputContext) -> Connection:
    """How the Kafka of an output is reached. Raises OutputError."""
    if settings.bootstrap_servers is None:
        if context.kafka is None:
            raise OutputError(
                f"output {name}: no Kafka is named; give bootstrap_servers, or set kafka.bootstrap_servers in the "
                "server's configuration"
            )
        return context.kafka
    for server in settings.bootstrap_servers.split(","):
        if not re.fullmatch(r"\s*[^\s:/]+:\d{1,5}\s*|\s*\[[0-9a-fA-F:]+\]:\d{1,5}\s*", server):
            raise OutputError(
                f"output {name}: bootstrap_servers {settings.bootstrap_servers!r}: write HOST:PORT, several with commas"
            )
    from ostinato.cep.connectors.kafka.options import Connection

    # another cluster must not be sent this one's password
    if context.kafka is not None and settings.bootstrap_servers == context.kafka.servers:
        return context.kafka
    return replace(Connection(), servers=settings.bootstrap_servers)


def file_of(name: str, settings: FileOutput, context: OutputContext) -> Path:
    """The file of an output, without links in its path. Raises OutputError."""
    if "\0" in settings.path:
        raise OutputError(f"output {name}: path {settings.path!r} is none")
    path = Path(settings.path)
    folders = [folder.resolve() for folder in context.write_folders]
    if not folders:
        raise OutputError(
            f"output {name}: files are not allowed; name the folders they may be written into in files.write of the "
            "server's configuration"
        )
    if not path.is_absolute():
        path = folders[0] / path
    real = path.resolve()
    if not any(real.is_relative_to(folder) and real != folder for folder in folders):
        raise OutputError(
            f"output {name}: {settings.path} is outside of {', '.join(map(str, folders))}; files.write in the server's "
            "configuration says where files may be written"
        )
    if real.is_dir():
        raise OutputError(f"output {name}: {settings.path} is a folder; name a file in it")
    return real


def header_value(name: str, value: str, context: OutputContext) -> str:
    """The value itself, where a secret is named. Raises OutputError."""
    if not value.startswith(SECRET):
        return value
    return secret_of(name, value.removeprefix(SECRET), context)


def secret_of(name: str, secret: str, context: OutputContext) -> str:
    """A secret by its name. Raises OutputError."""
    found = context.secret(secret)
    if found is None:
        raise OutputError(f"output {name}: there is no secret {secret!r}; add it to webhooks.secrets of the server")
    return found


def _check_webhook(name: str, settings: WebhookOutput, context: OutputContext) -> None:
    try:
        parts = urlsplit(settings.url)
        port = parts.port
    except ValueError as error:
        raise OutputError(f"output {name}: url {settings.url!r}: {error}") from None
    if not parts.hostname or port == 0 or any(c.isspace() or ord(c) < 32 for c in settings.url):
        raise OutputError(f"output {name}: url {settings.url!r} names no host; write https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise OutputError(f"output {name}: no password belongs into a url; use headers with secret:NAME")
    if settings.secret is not None:
        secret_of(name, settings.secret, context)
    for header, value in settings.headers.items():
        if not _HEADER_NAME.fullmatch(header) or not _HEADER_VALUE.fullmatch(header_value(name, value, context)):
            raise OutputError(f"output {name}: header {header!r}: a name or value that HTTP does not allow")
        if header.lower() in _OWN_HEADERS:
            raise OutputError(f"output {name}: header {header}: the server sets that itself")
