"""Finding the running jobs of this machine, and asking them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ostinato.patterns.errors import did_you_mean
from ostinato.server import exits, protocol
from ostinato.server.protocol import Answer, Ask
from ostinato.server.registry import Entry, RegistryError, address_of, runtime_folder, socket_of, sweep
from ostinato.state.typed import decode_json

_ANSWER_SECONDS = 5.0
"""A job answers what it does at once, whatever it is held up by."""


class JobError(click.ClickException):
    """There is no such running job, or it has not done what it was asked."""

    exit_code = exits.JOB

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's
        click.echo(f"ostinato: {self.message}", err=True)


class NoSuchJobError(JobError):
    """There is no such running job on this machine."""


def running_jobs() -> tuple[Path, list[Entry]]:
    """The folder of running jobs, and their entries, the oldest first. Raises JobError."""
    try:
        folder = runtime_folder()
        return folder, sweep(folder)
    except RegistryError as error:
        raise JobError(str(error)) from error


def find_job(wanted: str) -> tuple[Path, Entry]:
    """The running job of a name, an id, or the beginning of either where there is only one such.

    Raises:
        NoSuchJobError: there is none.
        JobError: there are several.
    """
    folder, entries = running_jobs()
    for matching in (
        [entry for entry in entries if entry.id == wanted],
        [entry for entry in entries if entry.name == wanted],
        [entry for entry in entries if wanted and entry.id.startswith(wanted)],
        [entry for entry in entries if wanted and entry.name.startswith(wanted)],
    ):
        if len(matching) == 1:
            return folder, matching[0]
        if matching:
            raise JobError(f"several running jobs are called `{wanted}`: {_listed(matching)}; give the id of one")
    if not entries:
        raise NoSuchJobError(f"there is no running job `{wanted}`: none runs here (as this user, in {folder})")
    hint = did_you_mean(wanted, [entry.name for entry in entries])
    raise NoSuchJobError(f"there is no running job `{wanted}`; {hint or f'these run: {_listed(entries)}'}")


def _listed(entries: Sequence[Entry]) -> str:
    return ", ".join(f"{entry.name} ({entry.id})" for entry in entries)


def ask(folder: Path, entry: Entry, request: Ask) -> Any:
    """Ask a job, and give its answer; of what ends the job, not before the job is gone.

    Raises:
        JobError: it refuses, cannot be reached, or ended before it answered.
    """
    name = f"job {entry.name} ({entry.id})"
    try:
        with address_of(socket_of(folder, entry)) as address, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(address)
            connection.sendall(protocol.line(request))
            if request.do != "status":
                connection.settimeout(None)  # the job itself has a timeout for what it does
            with connection.makefile("rb") as answers:
                said = answers.readline()
                if not said.endswith(b"\n"):
                    raise JobError(f"{name} ended before it answered")
                answer = decode_json(said, Answer)
                if not answer.ok:
                    raise JobError(f"{name}: {answer.error}")
                if request.do in ("stop", "cancel"):
                    answers.read()
                return answer.result
    except TimeoutError:
        raise JobError(f"{name} (process {entry.pid}) does not answer; is it stopped?") from None
    except OSError as error:
        said_why = (error.strerror or str(error)).lower()
        raise JobError(f"{name} (process {entry.pid}) cannot be reached: {said_why}") from error
