"""`ostinato run -d`: a program as a job of a server."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from ostinato.server.client import Client
from ostinato.server.http.schemas.jobs import JobRequest
from ostinato.server.lasting_options import job_name
from ostinato.server.programs import read_text, shown
from ostinato.server.remote import shown as answers
from ostinato.server.remote.connection import Remote, Sources

_TAKEN = frozenset(
    ("program", "params", "workers", "name", "interval", "restart", "savepoint", "detach", "as_json", "url", "token",
     "ca_file", "no_progress")
)  # fmt: skip


def submit(remote: Remote, program: str, workers: int, params: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Hand a program over, and print the id of its job.

    Args:
        remote: the server.
        program: a .cep file, whose text is sent, or a Python file of the server.
        workers, params: as of `run`.
        given: the other options of `run`.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in _TAKEN and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} is not for jobs of a server: they read and write what the program says, and keep "
                "their checkpoints in the server's data directory"
            )
    is_python = program.endswith(".py")
    text = None if is_python else read_text(program)
    sources = None if text is None else Sources(((shown(program), text),))
    interval = given["interval"]
    with remote.client(sources) as client:
        job = client.create_job(
            JobRequest(
                name=job_name(program, given["name"]),
                text=text,
                module=_module(program, client) if is_python else None,
                params=dict(params),
                parallelism=workers,
                restart=given["restart"],
                checkpoint_interval=None if interval is None else f"{interval}ms",
                savepoint=given["savepoint"],
            )
        )
        url = client.url
    if remote.as_json:
        answers.as_json(job)
        return
    click.echo(job.id)
    click.echo(f"job {job.name} ({job.id}) was submitted to {url}", err=True)


def _module(program: str, client: Client) -> str:
    """The path as the server knows it: on this machine the whole one, else as it was said."""
    path = Path(program)
    return str(path.absolute()) if path.exists() and _is_here(client.url) else program


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
