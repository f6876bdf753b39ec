"""Changes of what runs, before and after they are made, as people read them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from ostinato.server.client import Client
from ostinato.server.console import counted
from ostinato.server.http.schemas.patterns import Applied, PatternPlan, Plan
from ostinato.server.remote import shown
from ostinato.server.remote.connection import Remote

HEAD = ("what", "name", "change", "version", "partial matches", "remarks")
_FATES = {"keep": "kept", "drain": "drained", "drop": "dropped"}
_NOTHING = frozenset({"unchanged"})


def show_change(remote: Remote, client: Client, applied: Applied) -> None:
    """Print what a change does, or did."""
    if remote.as_json:
        shown.as_json(applied)
        return
    rows = list(plan_rows(applied.plan))
    if rows:
        shown.show_table(HEAD, rows)
    for warning in applied.plan.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(_what_happened(applied, client.url), err=True)


def _what_happened(applied: Applied, url: str) -> str:
    if applied.dry_run:
        return "this is the plan; nothing was changed"
    if applied.generation is None:
        return "nothing was changed"
    when = "in effect" if applied.effective else "takes effect as soon as the worker comes there"
    dropped = sum(applied.dropped.values())
    lost = f"; {counted(dropped, 'partial match', 'partial matches')} dropped" if dropped else ""
    return f"generation {applied.generation} on {url}, from position {applied.position} on: {when}{lost}"


def plan_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    """The plan, a row for each thing."""
    for stream in plan.streams:
        yield "stream", stream.stream, stream.action, "", "", stream.reason
    for param in plan.params:
        value = shown.value_text(param.value)
        said = f"{shown.value_text(param.before)} → {value}" if param.action == "changed" else value
        yield "param", param.param, param.action, "", "", said
    for pattern in plan.patterns:
        yield "pattern", pattern.pattern, pattern.action, _versions(pattern), _partials(pattern), _remarks(pattern)


def _versions(plan: PatternPlan) -> str:
    if plan.from_version is None or plan.to_version is None or plan.from_version == plan.to_version:
        version = plan.to_version if plan.to_version is not None else plan.from_version
        return "" if version is None else str(version)
    return f"{plan.from_version} → {plan.to_version}"


def _partials(plan: PatternPlan) -> str:
    if plan.old is None or plan.action in _NOTHING:
        return ""
    fate = _FATES[plan.old]
    return fate if plan.partial_matches is None else f"{plan.partial_matches:,} {fate}"


def _remarks(plan: PatternPlan) -> str:
    found = [plan.reason, plan.loses]
    if plan.old == "drain" and plan.drained_ms is not None:
        from ostinato.patterns.literals import format_duration

        found.append(f"drained {format_duration(plan.drained_ms)} later")
    if len(plan.old_choices) > 1:
        found.append(f"--old {'|'.join(plan.old_choices)}")
    return "; ".join(each for each in found if each)
