"""`ostinato run`: a program over its input."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from ostinato.server import exits
from ostinato.server.lasting_options import SectionedCommand, lasting, lasting_options
from ostinato.server.options import param_values
from ostinato.server.remote.connection import Remote, with_server

if TYPE_CHECKING:
    from ostinato.cep.runtime.load import ConnectorSpec

_TOPIC = "kafka:"
_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*(?:\.late)?)=(.+)", re.DOTALL)


@click.command("run", cls=SectionedCommand)
@click.argument("program", metavar="PROGRAM")
@click.option(
    "--input",
    "-i",
    "inputs",
    multiple=True,
    metavar="[STREAM=]FILE",
    help="Read a stream from FILE (a path, a glob such as 'logs/*.jsonl.gz', or - for standard input) instead of what "
    "the program says. STREAM= may be left out where there is one.",
)
@click.option(
    "--input-format",
    metavar="FORMAT",
    help="How the input is written: json, csv, tsv, parquet or text.",
)
@click.option("--follow", is_flag=True, help="Keep reading as the input grows, like tail -F.")
@click.option(
    "--output",
    "-o",
    "outputs",
    multiple=True,
    metavar="[NAME=]FILE",
    help="Write what the pattern (or its `into`) NAME gives to FILE, - for standard output. The ending says the "
    "format: .jsonl, .csv, .tsv, .parquet.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "csv", "tsv", "table"]),
    help="How matches are written to standard output. A table on a terminal, JSON in a pipe by default.",
)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the program.")
@click.option(
    "--workers",
    "-p",
    type=click.IntRange(1, 128),
    default=1,
    show_default=True,
    help="Worker processes; keys are spread over them, matches are the same.",
)
@click.option("--strict", is_flag=True, help="End at the first bad event (exit code 5).")
@click.option(
    "--dead-letters",
    metavar="FILE",
    help="Keep bad events in FILE, with their place and the reason. PROGRAM.dead-letters.jsonl in this folder by "
    "default, made only when there are any.",
)
@click.option("--late", metavar="FILE", help="Keep events that come behind the watermark in FILE, or kafka:TOPIC.")
@click.option(
    "--kafka",
    metavar="HOST:PORT",
    help="Where Kafka is, for topics of which the program does not say so. A topic is named kafka:TOPIC wherever a "
    "FILE can be.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N rows of output.")
@click.option("--show", type=click.IntRange(0), metavar="N", help="Write only the first N rows, but run to the end.")
@click.option("--json", "as_json", is_flag=True, help="Matches as JSON also on a terminal, and the summary as JSON.")
@click.option("--no-progress", is_flag=True, help="Show no progress on the terminal.")
@click.option(
    "--detach",
    "-d",
    is_flag=True,
    help="Hand the program over to a server, which runs it as a job of its own (`list`, `stop`, `cancel`), and print "
    "the job's id. With it go -p, -s, --param, --name, --interval and --restart.",
)
@lasting_options
@with_server
def command(
    program: str,
    inputs: tuple[str, ...],
    input_format: str | None,
    follow: bool,
    outputs: tuple[str, ...],
    form: str | None,
    params: tuple[str, ...],
    workers: int,
    strict: bool,
    dead_letters: str | None,
    late: str | None,
    kafka: str | None,
    limit: int | None,
    show: int | None,
    no_progress: bool,
    detach: bool,
    remote: Remote,
    **given: Any,
) -> None:
    """Run the patterns of PROGRAM, a .cep file or a Python module with decorated patterns, over their input.

    Matches that the program sends nowhere go to standard output: a table on a terminal, one JSON object each in a pipe.
    Progress and the summary go to standard error.

    With checkpoints, matches in files come exactly once, whatever happens to the process: start it again with --resume.
    """
    as_json = remote.as_json
    if detach:
        from ostinato.server.remote.submitting import submit

        submit(remote, program, workers, param_values(params), given)
        return
    if remote.url or remote.token or remote.ca_file:
        raise click.UsageError("--server, --token and --ca-file are about jobs of a server; give --detach (-d) too")
    from ostinato.cep.runtime.memory import collect_less_often

    collect_less_often()
    from ostinato.cep.runtime.load import LoadError, read_spec
    from ostinato.server.cli import leave

    reading = {name: _source(target, input_format, follow) for name, target in _named(inputs, "--input").items()}
    writing = {name: _sink(target, form) for name, target in _named(outputs, "--output").items()}
    if late is not None and late.startswith(_TOPIC):
        writing[".late"] = _sink(late, None)
        late = None
    if kafka is not None:
        from ostinato.cep.connectors.kafka.options import BOOTSTRAP_VARIABLE

        os.environ[BOOTSTRAP_VARIABLE] = kafka  # of workers too
    if not reading and (follow or input_format is not None):
        raise click.UsageError("--follow and --input-format say more of --input; give that too")
    survival = lasting(program, given)
    whole_rows = late is not None or any(name.endswith(".late") for name in writing)
    try:
        spec = read_spec(program, params=param_values(params), inputs=reading, outputs=writing, whole_rows=whole_rows)
    except LoadError as error:
        click.echo(f"ostinato: {error}", err=True)
        sys.exit(exits.INPUT)
    from ostinato.server.running import RunOptions, run

    options = RunOptions(workers, strict, dead_letters, late, form, limit, show, as_json, not no_progress, survival)
    leave(run(spec, options))


def _named(given: tuple[str, ...], option: str) -> dict[str, str]:
    """``name=file`` texts as a dict; a file alone is under ``""``."""
    found: dict[str, str] = {}
    for text in given:
        match = _NAMED.fullmatch(text)
        name, target = match.groups() if match else ("", text)
        if name in found:
            raise click.UsageError(f"{option} {text}: there are two for {name or 'the same'}")
        found[name] = target
    return found


def _source(target: str, form: str | None, follow: bool) -> ConnectorSpec:
    from ostinato.cep.runtime.load import ConnectorSpec

    if target == "-":
        return ConnectorSpec("stdin", format=form)
    if target.startswith(_TOPIC):
        return ConnectorSpec("kafka", target.removeprefix(_TOPIC), form)
    return ConnectorSpec("file", target, form, {"follow": True} if follow else {})


def _sink(target: str, form: str | None) -> ConnectorSpec:
    from ostinato.cep.runtime.load import ConnectorSpec

    if target == "-":
        return ConnectorSpec("stdout", format=form)
    if target.startswith(_TOPIC):
        return ConnectorSpec("kafka", target.removeprefix(_TOPIC))
    return ConnectorSpec("file", target)
