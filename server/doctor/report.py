"""How findings are shown: a table on a terminal, lines in a pipe, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

import click

from ostinato.server.doctor.findings import Finding, Severity

_COLORS: Final = {Severity.OK: "green", Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "red"}


def show(findings: Sequence[Finding], *, all_of_them: bool) -> None:
    """On standard output, the worst first; `all_of_them`: also what is as it should be."""
    shown = [each for each in findings if all_of_them or each.severity > Severity.OK]
    shown.sort(key=lambda each: -each.severity)
    if sys.stdout.isatty():
        _table(shown)
    else:
        for each in shown:
            click.echo(f"{each.severity.word}: {each.line} [{each.check}]")
    click.echo(summary(findings))


def as_json(findings: Sequence[Finding]) -> str:
    """One object: how many there are of each severity, and all of them."""
    counts = Counter(each.severity for each in findings)
    return json.dumps(
        {
            **{f"{severity.word}s": counts[severity] for severity in reversed(Severity) if severity},
            "ok": counts[Severity.OK],
            "findings": [
                {
                    "severity": each.severity.word,
                    "check": each.check,
                    "subject": each.subject,
                    "what": each.what,
                    "why": each.why,
                    "change": each.change,
                }
                for each in findings
            ],
        },
        indent=2,
    )


def summary(findings: Sequence[Finding]) -> str:
    """``1 error, 2 warnings, 3 notes; 40 ok``"""
    counts = Counter(each.severity for each in findings)
    parts = [
        f"{counts[severity]} {severity.word}{'s' * (counts[severity] != 1)}"
        for severity in reversed(Severity)
        if severity and counts[severity]
    ]
    return f"{', '.join(parts) or 'nothing to change'}; {counts[Severity.OK]} ok"


def _table(findings: Sequence[Finding]) -> None:
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 1, 0), show_header=bool(findings))
    table.add_column("")
    table.add_column("about", max_width=34, overflow="fold")
    table.add_column("what is, why it matters, what to change", overflow="fold")
    for each in findings:
        said = [Text(each.what)]
        if each.why:
            said.append(Text(each.why, style="dim"))
        if each.change:
            said.append(Text(f"-> {each.change}"))
        table.add_row(
            Text(each.severity.word, style=f"bold {_COLORS[each.severity]}"), Text(each.subject), Group(*said)
        )
    # text is put in as it is: nothing in it is taken for markup or coloured because it looks like a number
    Console(file=sys.stdout, highlight=False, markup=False, emoji=False).print(table)
