"""Requests about patterns, parameters, and changes of what runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ostinato.server.client.call import JSON, TEXT, Call, condition, path_of, read
from ostinato.server.http.schemas import patterns as schemas

Applied = schemas.Applied
Old = schemas.OldPartials


def apply(text: str, *, dry_run: bool = False, old: Old | None = None, comment: str = "") -> Call[Applied]:
    """Apply the text of a file: its streams, params and patterns. What it does not name stays as it is.

    Args:
        text: of a `.cep` file.
        dry_run: only say what would happen.
        old: what becomes of the partial matches of versions that are replaced; None: what fits each pattern.
        comment: kept with the versions.
    """
    query = {"dry_run": dry_run or None, "old": old, "comment": comment or None}
    return Call("POST", path_of("apply"), Applied, query, text.encode(), {"content-type": TEXT})


def patterns(
    *, stream: str | None = None, state: schemas.State | None = None, limit: int = 100, after: str | None = None
) -> Call[schemas.PatternPage]:
    """The patterns by name, a page of them."""
    return read(path_of("patterns"), schemas.PatternPage, stream=stream, state=state, limit=limit, after=after)


def pattern(name: str) -> Call[schemas.PatternInfo]:
    """A pattern: text, version, counters; `etag` is for `if_match`."""
    return read(path_of("patterns", name), schemas.PatternInfo)


def put_pattern(
    name: str,
    text: str,
    *,
    dry_run: bool = False,
    old: Old | None = None,
    comment: str = "",
    if_match: str | None = None,
    absent: bool = False,
) -> Call[Applied]:
    """Make or change one pattern; see `apply`.

    Args:
        name, text: of the pattern.
        dry_run, old, comment: as with `apply`.
        if_match: the ETag that it has to have; else `Stale`.
        absent: there must be none yet; else `Stale`.
    """
    query = {"dry_run": dry_run or None, "old": old, "comment": comment or None}
    headers = {"content-type": TEXT, **condition(if_match, absent=absent)}
    return Call("PUT", path_of("patterns", name), Applied, query, text.encode(), headers)


def delete_pattern(
    name: str,
    *,
    dry_run: bool = False,
    old: Literal["drain", "drop"] | None = None,
    comment: str = "",
    if_match: str | None = None,
) -> Call[Applied]:
    """Delete a pattern; with `old="drain"` its partial matches may still end."""
    query = {"dry_run": dry_run or None, "old": old, "comment": comment or None}
    return Call("DELETE", path_of("patterns", name), Applied, query, headers=condition(if_match))


def versions(name: str, *, limit: int = 100, after: str | None = None) -> Call[schemas.VersionPage]:
    """The versions of a pattern, the newest first."""
    return read(path_of("patterns", name, "versions"), schemas.VersionPage, limit=limit, after=after)


def version(name: str, version: int) -> Call[schemas.VersionInfo]:
    """One version of a pattern, with its text."""
    return read(path_of("patterns", name, "versions", version), schemas.VersionInfo)


def diff(name: str, from_: int | None = None, to: int | None = None) -> Call[schemas.Diff]:
    """The difference of two versions; without `from_` the one before `to`, without `to` the newest."""
    query = {"from": from_, "to": to}
    return Call("GET", path_of("patterns", name, "diff"), schemas.Diff, query, repeatable=True)


def rollback(
    name: str,
    version: int | None = None,
    *,
    dry_run: bool = False,
    old: Old | None = None,
    comment: str = "",
    if_match: str | None = None,
) -> Call[Applied]:
    """Let an earlier version count again; without one, that before the one that does."""
    wanted = schemas.RollbackRequest(version, old, comment, dry_run)
    return _act(name, "rollback", wanted, if_match)


def pause(name: str, *, dry_run: bool = False, comment: str = "", if_match: str | None = None) -> Call[Applied]:
    """Pause a pattern: it gets no events, and its partial matches end."""
    return _act(name, "pause", schemas.PauseRequest(comment, dry_run), if_match)


def resume(name: str, *, dry_run: bool = False, comment: str = "", if_match: str | None = None) -> Call[Applied]:
    """Resume a pattern; it begins anew."""
    return _act(name, "resume", schemas.PauseRequest(comment, dry_run), if_match)


def put_shadow(
    name: str, text: str, *, dry_run: bool = False, comment: str = "", if_match: str | None = None
) -> Call[Applied]:
    """Run another version beside the live one; its matches go to a stream of their own."""
    query = {"dry_run": dry_run or None, "comment": comment or None}
    headers = {"content-type": TEXT, **condition(if_match)}
    return Call("PUT", path_of("patterns", name, "shadow"), Applied, query, text.encode(), headers)


def delete_shadow(name: str, *, dry_run: bool = False, comment: str = "", if_match: str | None = None) -> Call[Applied]:
    """End the shadow of a pattern."""
    query = {"dry_run": dry_run or None, "comment": comment or None}
    return Call("DELETE", path_of("patterns", name, "shadow"), Applied, query, headers=condition(if_match))


def why(name: str, key: Sequence[str] = (), *, events: int = 10) -> Call[schemas.Why]:
    """Why a key has matched or not.

    Args:
        name: of the pattern.
        key: the value of each key column, as text.
        events: how many of the key's last events are explained.
    """
    return read(path_of("patterns", name, "why"), schemas.Why, key=list(key), events=events)


def graph(name: str) -> Call[schemas.Graph]:
    """The automaton of a pattern, with the number of partial matches in each state."""
    return read(path_of("patterns", name, "graph"), schemas.Graph)


def changes(*, limit: int = 100, after: str | None = None) -> Call[schemas.ChangePage]:
    """What was changed, the newest first."""
    return read(path_of("changes"), schemas.ChangePage, limit=limit, after=after)


def params(*, limit: int = 100, after: str | None = None) -> Call[schemas.ParamPage]:
    """The parameters by name, a page of them."""
    return read(path_of("params"), schemas.ParamPage, limit=limit, after=after)


def param(name: str) -> Call[schemas.ParamInfo]:
    """A parameter: its value now, and as declared."""
    return read(path_of("params", name), schemas.ParamInfo)


def put_param(
    name: str, value: bool | float | str, *, comment: str = "", if_match: str | None = None
) -> Call[schemas.ParamChanged]:
    """Set a parameter. In effect at once, nothing is compiled.

    Args:
        name: of the parameter.
        value: as JSON, or as the language writes it (`"5 min"`).
        comment: kept with the change.
        if_match: the ETag that it has to have; else `Stale`.
    """
    body = msgspec.json.encode(schemas.ParamValue(value, comment))
    headers = {"content-type": JSON, **condition(if_match)}
    return Call("PUT", path_of("params", name), schemas.ParamChanged, body=body, headers=headers)


def delete_param(name: str, *, if_match: str | None = None) -> Call[schemas.ParamChanged]:
    """Set a parameter back to its declared value."""
    return Call("DELETE", path_of("params", name), schemas.ParamChanged, headers=condition(if_match))


def _act(name: str, action: str, wanted: Any, if_match: str | None) -> Call[Applied]:
    headers = {"content-type": JSON, **condition(if_match)}
    return Call("POST", path_of("patterns", name, action), Applied, body=msgspec.json.encode(wanted), headers=headers)
