"""Everything that can be set, as one frozen tree. Durations are milliseconds, sizes are bytes, None is "not set"."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ostinato.server.config.about import About, size, span
from ostinato.server.config.secret import Secret

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
KIB, MIB = 1 << 10, 1 << 20


class ServerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server lives and listens."""

    data_dir: Annotated[str, About("folder of everything that the server keeps")] = "./ostinato-data"
    host: Annotated[str, About("address it listens on; one that others reach needs TLS, or `--insecure`")] = "127.0.0.1"
    port: Annotated[int, About("port it listens on; 0 takes a free one", least=0, most=65535)] = 8642
    workers: Annotated[int, About("jobs and backtests that compute at the same time", least=1, most=256)] = 2
    allowed_hosts: Annotated[
        tuple[str, ...], About("names in the `Host` header besides the loopback ones; `*` allows every name")
    ] = ()
    shutdown_timeout: Annotated[int, span("how long an ending server waits for what is under way")] = 10 * SECOND
    insecure: Annotated[bool, About("listen without TLS on an address that others reach")] = False


class TlsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """HTTPS, where both files are named."""

    cert: Annotated[str | None, About("file of the certificate chain (PEM)")] = None
    key: Annotated[str | None, About("file of its private key (PEM)")] = None
    key_password: Annotated[Secret | None, About("what the key's file is encrypted with")] = None


class LimitsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one client may ask for."""

    body_bytes: Annotated[int, size("largest body of a request, as it comes", KIB)] = 64 * MIB
    decompressed_bytes: Annotated[int, size("largest body once it is decompressed", KIB)] = 256 * MIB
    body_timeout: Annotated[int, span("how long a request may take to come, all of it", 100)] = 30 * SECOND
    send_timeout: Annotated[int, span("how long a client may not read before it is cut off", 100)] = 60 * SECOND
    pattern_bytes: Annotated[int, size("largest text of patterns or streams", KIB)] = MIB
    pattern_states: Annotated[int, About("most states of one pattern's automaton", least=1, most=2000)] = 2_000
    patterns: Annotated[int, About("most patterns that run at the same time", least=1)] = 2_000
    requests_per_second: Annotated[int, About("requests of one token; 0 is no limit", least=0)] = 20_000
    events_per_second: Annotated[int, About("events of one token; 0 is no limit", least=0)] = 0
    connections: Annotated[int, About("connections at the same time", least=1)] = 4_096
    sse_clients: Annotated[int, About("clients that follow the matches (SSE and WebSocket)", least=0)] = 1_024


class JournalSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log of everything that comes in."""

    segment_bytes: Annotated[int, size("size of its files", 64 * KIB)] = 64 * MIB
    retention: Annotated[int, span("how long events are kept once they are computed")] = 7 * DAY
    retention_bytes: Annotated[int | None, size("most that is kept of them, whatever their age")] = None
    idempotency_window: Annotated[int, span("how long an `Idempotency-Key` is remembered")] = 24 * HOUR
    idempotency_keys: Annotated[int, About("how many of them are remembered", least=0)] = 1_000_000


class MatchesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log of what comes out."""

    segment_bytes: Annotated[int, size("size of its files", 64 * KIB)] = 64 * MIB
    retention: Annotated[int, span("how long matches are kept")] = 7 * DAY
    retention_bytes: Annotated[int | None, size("most that is kept of them, whatever their age")] = None


class CheckpointsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Snapshots of the state of the patterns that run."""

    interval: Annotated[int, span("time between two of them", 10)] = 10 * SECOND
    dir: Annotated[str | None, About("folder they are kept in; `checkpoints` in the data directory where not set")] = (
        None
    )


class FilesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files that streams, outputs and backtests may name. None, unless folders are given."""

    read: Annotated[tuple[str, ...], About("folders whose files may be read")] = ()
    write: Annotated[tuple[str, ...], About("folders into which outputs may be written")] = ()


class ModulesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Python programs (`app.py`) that jobs may run. They are never uploaded."""

    paths: Annotated[tuple[str, ...], About("folders whose modules may be run as jobs")] = ()


class KafkaSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The Kafka that streams and outputs mean where they name no other."""

    bootstrap_servers: Annotated[str | None, About("brokers, as `host:9092,host:9092`")] = None
    security_protocol: Annotated[
        str, About("how brokers are talked to", one_of=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"))
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        str | None, About("how the server says who it is", one_of=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"))
    ] = None
    sasl_username: Annotated[str | None, About("as whom")] = None
    sasl_password: Annotated[Secret | None, About("with which password")] = None
    ssl_cafile: Annotated[str | None, About("file of the certificates that are trusted")] = None


class WebhooksSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Matches that are sent to URLs."""

    allow_private: Annotated[bool, About("send to addresses of private networks and of this machine too")] = False
    secrets: Annotated[dict[str, Secret], About("keys that requests are signed with, by the name outputs use")] = {}
    timeout: Annotated[int, span("how long an answer may take", 100)] = 10 * SECOND


class AuthSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may do what."""

    enabled: Annotated[bool, About("ask for tokens; without, everyone who reaches the server is an operator")] = True
    tokens_file: Annotated[str | None, About("file of further tokens: lines `NAME ROLE sha256:HEX`")] = None


class MetricsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`/metrics` for Prometheus."""

    public: Annotated[bool, About("answer without a token")] = False


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the server says of its work, on standard error."""

    format: Annotated[str, About("a JSON object a line, or text for people", one_of=("json", "text"))] = "json"
    level: Annotated[str, About("the least that is said", one_of=("debug", "info", "warning", "error"))] = "info"


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings."""

    server: ServerSection = ServerSection()
    tls: TlsSection = TlsSection()
    limits: LimitsSection = LimitsSection()
    journal: JournalSection = JournalSection()
    matches: MatchesSection = MatchesSection()
    checkpoints: CheckpointsSection = CheckpointsSection()
    files: FilesSection = FilesSection()
    modules: ModulesSection = ModulesSection()
    kafka: KafkaSection = KafkaSection()
    webhooks: WebhooksSection = WebhooksSection()
    auth: AuthSection = AuthSection()
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()
