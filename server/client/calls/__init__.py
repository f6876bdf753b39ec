"""Every request that the API knows, as functions that build a `Call`; each is named after its route."""

from ostinato.server.client.calls import jobs, matches, patterns, server, streams

__all__ = ["jobs", "matches", "patterns", "server", "streams"]
