"""The match log: what the live worker has found, numbered, for everything that goes out."""

from ostinato.server.matches.errors import (
    MatchesGoneError,
    MatchLogBusyError,
    MatchLogDamagedError,
    MatchLogError,
    MatchLogFullError,
)
from ostinato.server.matches.reader import MatchLogReader, Scan
from ostinato.server.matches.rows import EVERYTHING, Filter, Kind, Match, Rows
from ostinato.server.matches.writer import MatchLogOptions, MatchLogWriter

__all__ = [
    "EVERYTHING",
    "Filter",
    "Kind",
    "Match",
    "MatchLogBusyError",
    "MatchLogDamagedError",
    "MatchLogError",
    "MatchLogFullError",
    "MatchLogOptions",
    "MatchLogReader",
    "MatchLogWriter",
    "MatchesGoneError",
    "Rows",
    "Scan",
]
