"""What a program says about Kafka: how to connect, what to read and where to begin, what to write and how surely.

Names are those of Kafka's own client settings, with underscores. A secret can be named instead of written: a value
``env:NAME`` is read from the environment, ``file:PATH`` from a file.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from ostinato.cep.connectors.base import ConnectorError, Options
from ostinato.patterns.ast import Connector
from ostinato.patterns.errors import did_you_mean

BOOTSTRAP_VARIABLE: Final = "KAFKA_BOOTSTRAP_SERVERS"
"""The environment variable that says where Kafka is, for programs that do not."""
_DEFAULT_SERVERS: Final = "localhost:9092"

Keying: TypeAlias = Literal["verify", "trust", "rekey"]
LostOffsets: TypeAlias = Literal["fail", "earliest", "latest"]
Delivery: TypeAlias = Literal["exactly_once", "at_least_once"]
Isolation: TypeAlias = Literal["read_committed", "read_uncommitted"]

CONNECTION: Final = (
    "bootstrap_servers", "security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password",
    "ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_check_hostname", "client_id",
    "request_timeout_ms", "metadata_max_age_ms",
)  # fmt: skip
"""The options that say how to connect."""
_SOURCE: Final = (
    "topic_pattern", "start", "until", "keying", "on_lost_offsets", "isolation_level", "session_timeout_ms",
    "heartbeat_interval_ms", "max_poll_interval_ms", "fetch_max_bytes", "max_partition_fetch_bytes",
    "fetch_max_wait_ms", "year",
)  # fmt: skip
_SINK: Final = ("delivery", "key", "compression_type", "transaction_timeout_ms", "linger_ms", "max_request_size")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER")
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True, slots=True)
class Connection:
    """How a cluster is reached.

    Attributes:
        servers: ``host:port``, several with commas.
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        mechanism: of SASL.
        username: of SASL.
        password: of SASL, or where it is (``env:``, ``file:``).
        cafile: PEM of the authorities; None: the system's.
        certfile: PEM of our own certificate.
        keyfile: PEM of its key.
        key_password: of the key, or where it is.
        check_hostname: whether the certificate must be for the host.
        client_id: what brokers call us in their logs.
        request_timeout_ms: how long an answer may take.
        metadata_max_age_ms: how soon new topics and partitions are noticed.
    """

    servers: str = _DEFAULT_SERVERS
    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    key_password: str | None = field(default=None, repr=False)
    check_hostname: bool = True
    client_id: str = "ostinato"
    request_timeout_ms: int = 40_000
    metadata_max_age_ms: int = 60_000

    def settings(self) -> dict[str, Any]:
        """Arguments for aiokafka's clients. Raises ConnectorError where a secret or a certificate cannot be read."""
        found: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "client_id": self.client_id,
            "request_timeout_ms": self.request_timeout_ms,
            "metadata_max_age_ms": self.metadata_max_age_ms,
            "security_protocol": self.protocol,
        }
        if "SASL" in self.protocol:
            found["sasl_mechanism"] = self.mechanism
            found["sasl_plain_username"] = self.username
            found["sasl_plain_password"] = _secret(self.password, "sasl_plain_password")
        if "SSL" in self.protocol:
            found["ssl_context"] = self._ssl_context()
        return found

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.cafile)
            context.check_hostname = self.check_hostname
            if self.certfile is not None:
                password = _secret(self.key_password, "ssl_password")
                context.load_cert_chain(self.certfile, self.keyfile, password)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (self.cafile, self.certfile, self.keyfile)))
            raise ConnectorError(
                f"TLS for {self.servers}: {files}: {error}; check ssl_cafile, ssl_certfile, ssl_keyfile, ssl_password"
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """A stream's source.

    Attributes:
        connection: to the cluster.
        topics: their names; empty with a `pattern`.
        pattern: a regular expression that whole names of topics match.
        start: where to begin where nothing was committed: ``earliest``, ``latest``, or a time, epoch ms.
        until: ``latest``: end where the topics ended when the job began; epoch ms: before the first record of each
            partition that is as young as this, or where it ended; None: never.
        keying: whether records are partitioned by the stream's key: checked, believed, or brought about through a topic
            of the job's own.
        on_lost_offsets: what to do where the records that come next have been deleted.
        isolation: which records are seen.
        session_timeout_ms, heartbeat_interval_ms, max_poll_interval_ms: of the consumer group.
        fetch_max_bytes, max_partition_fetch_bytes, fetch_max_wait_ms: of one request.
    """

    connection: Connection
    topics: tuple[str, ...]
    pattern: str | None = None
    start: Literal["earliest", "latest"] | int = "earliest"
    until: Literal["latest"] | int | None = None
    keying: Keying = "verify"
    on_lost_offsets: LostOffsets = "fail"
    isolation: Isolation = "read_committed"
    session_timeout_ms: int = 10_000
    heartbeat_interval_ms: int = 1_000
    max_poll_interval_ms: int = 300_000
    fetch_max_bytes: int = 52_428_800
    max_partition_fetch_bytes: int = 4_194_304
    fetch_max_wait_ms: int = 100

    @property
    def place(self) -> str:
        """``topic logins at localhost:9092``, for messages."""
        what = f"topics like {self.pattern}" if self.pattern else f"topic {', '.join(self.topics)}"
        return f"{what} at {self.connection.servers}"


@dataclass(frozen=True, slots=True)
class KafkaTarget:
    """Where a stream's rows are written.

    Attributes:
        connection: to the cluster.
        topic: its name.
        delivery: `exactly_once` within transactions, or `at_least_once`.
        key: the columns whose values are the record's key; empty: those that are keys of the stream.
        compression: of batches.
        transaction_timeout_ms: a transaction that is open for longer is aborted by the broker.
        linger_ms: how long a batch waits for more.
        max_request_size: bytes of the largest batch.
    """

    connection: Connection
    topic: str
    delivery: Delivery = "exactly_once"
    key: tuple[str, ...] = ()
    compression: str | None = None
    transaction_timeout_ms: int = 60_000
    linger_ms: int = 0
    max_request_size: int = 1_048_576


def source_options(connector: Connector, owner: str) -> KafkaSource:
    """What ``from kafka 'TOPIC, ...' (...)`` says; `owner` is for messages. Raises ConnectorError."""
    options = Options(owner, connector.options)
    options.finish({*CONNECTION, *_SOURCE})
    pattern = options.text("topic_pattern")
    topics = _topics(connector.target, owner)
    if bool(topics) == bool(pattern):
        raise ConnectorError(f"{owner}: name topics, from kafka 'logins', or give option topic_pattern, not both")
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConnectorError(f"{owner}: option topic_pattern: {error} in {pattern!r}") from None
    session = options.number("session_timeout_ms", 10_000)
    heartbeat = options.number("heartbeat_interval_ms", min(1_000, session // 3))
    if heartbeat * 3 > session:
        raise ConnectorError(
            f"{owner}: heartbeat_interval_ms {heartbeat} is more than a third of session_timeout_ms {session}: one "
            "lost heartbeat would cost the partitions; lower it"
        )
    return KafkaSource(
        _connection(options, owner),
        topics,
        pattern,
        _start(options.text("start", "earliest") or "", owner),
        _choice(options, "until", ("latest",), None, owner),
        _choice(options, "keying", get_args(Keying), "verify", owner),
        _choice(options, "on_lost_offsets", get_args(LostOffsets), "fail", owner),
        _choice(options, "isolation_level", get_args(Isolation), "read_committed", owner),
        session,
        heartbeat,
        options.number("max_poll_interval_ms", 300_000),
        options.number("fetch_max_bytes", 52_428_800),
        options.number("max_partition_fetch_bytes", 4_194_304),
        options.number("fetch_max_wait_ms", 100),
    )


def target_options(connector: Connector, owner: str) -> KafkaTarget:
    """What ``to kafka 'TOPIC' (...)`` says; `owner` is for messages. Raises ConnectorError."""
    options = Options(owner, connector.options)
    options.finish({*CONNECTION, *_SINK})
    topics = _topics(connector.target, owner)
    if len(topics) != 1:
        raise ConnectorError(f"{owner}: name one topic to write to, such as to kafka 'alerts'")
    key = options.text("key") or ""
    compression = _choice(options, "compression_type", _CODECS, "none", owner)
    return KafkaTarget(
        _connection(options, owner),
        topics[0],
        _choice(options, "delivery", get_args(Delivery), "exactly_once", owner),
        tuple(name.strip() for name in key.split(",") if name.strip()),
        None if compression == "none" else compression,
        options.number("transaction_timeout_ms", 60_000),
        options.number("linger_ms", 0),
        options.number("max_request_size", 1_048_576),
    )


def _connection(options: Options, owner: str) -> Connection:
    default = os.environ.get(BOOTSTRAP_VARIABLE) or _DEFAULT_SERVERS
    servers = options.text("bootstrap_servers", default) or default
    for server in servers.split(","):
        if not re.fullmatch(r"\s*[^\s:]+:\d{1,5}\s*|\s*\[[0-9a-fA-F:]+\]:\d{1,5}\s*", server):
            raise ConnectorError(f"{owner}: bootstrap_servers {servers!r}: write HOST:PORT, several with commas")
    username = options.text("sasl_plain_username")
    protocol = _choice(options, "security_protocol", _PROTOCOLS, "PLAINTEXT", owner)
    if username is not None and "SASL" not in protocol:
        raise ConnectorError(f"{owner}: sasl_plain_username needs security_protocol = 'SASL_SSL' or 'SASL_PLAINTEXT'")
    return Connection(
        servers,
        protocol,
        _choice(options, "sasl_mechanism", _MECHANISMS, "PLAIN", owner),
        username,
        options.text("sasl_plain_password"),
        options.text("ssl_cafile"),
        options.text("ssl_certfile"),
        options.text("ssl_keyfile"),
        options.text("ssl_password"),
        options.flag("ssl_check_hostname", True),
        options.text("client_id", "ostinato") or "ostinato",
        options.number("request_timeout_ms", 40_000),
        options.number("metadata_max_age_ms", 60_000),
    )


def _topics(target: str | None, owner: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (target or "").split(",") if name.strip())
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name):
            raise ConnectorError(f"{owner}: {name!r} is no topic: letters, digits, . _ and -, 249 at most")
    return names


def _start(text: str, owner: str) -> Any:
    if text in ("earliest", "latest"):
        return text
    if text == "committed":
        return "earliest"  # what is committed always comes first; this is for where nothing is
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConnectorError(
            f"{owner}: option start {text!r}: use 'earliest', 'latest', 'committed' or a time such as "
            "'2026-01-31T12:00:00Z'"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _choice(options: Options, name: str, choices: Sequence[str], default: str | None, owner: str) -> Any:
    value = options.text(name, default)
    if value is None or value in choices:
        return value
    hint = did_you_mean(value, choices) or f"use one of {', '.join(choices)}"
    raise ConnectorError(f"{owner}: option {name} {value!r}: {hint}")


def _secret(value: str | None, what: str) -> str | None:
    if value is None:
        return None
    kind, colon, rest = value.partition(":")
    if colon and kind == "env":
        if rest not in os.environ:
            raise ConnectorError(f"{what}: the environment has no {rest}; set it")
        return os.environ[rest]
    if colon and kind == "file":
        try:
            return Path(rest).read_text().rstrip("\n")
        except OSError as error:
            raise ConnectorError(f"{what}: {rest}: {error.strerror}; check the path and who may read it") from error
    return value
