"""The configuration of the server: defaults < TOML < environment < flags (docs/configuration.md)."""

from ostinato.server.config.errors import ConfigError, ConfigProblem
from ostinato.server.config.loading import Loaded, load
from ostinato.server.config.model import (
    AuthSection,
    CheckpointsSection,
    FilesSection,
    JournalSection,
    KafkaSection,
    LimitsSection,
    LogSection,
    MatchesSection,
    MetricsSection,
    ModulesSection,
    ServerConfig,
    ServerSection,
    TlsSection,
    WebhooksSection,
)
from ostinato.server.config.secret import Secret
from ostinato.server.config.showing import as_toml, visible

__all__ = [
    "AuthSection",
    "CheckpointsSection",
    "ConfigError",
    "ConfigProblem",
    "FilesSection",
    "JournalSection",
    "KafkaSection",
    "LimitsSection",
    "Loaded",
    "LogSection",
    "MatchesSection",
    "MetricsSection",
    "ModulesSection",
    "Secret",
    "ServerConfig",
    "ServerSection",
    "TlsSection",
    "WebhooksSection",
    "as_toml",
    "load",
    "visible",
]
