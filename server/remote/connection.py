"""The options of commands that talk to a server, and how what goes wrong there ends a command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ostinato.server import exits

if TYPE_CHECKING:
    from ostinato.server.client import ApiError, Client, ClientError

F = TypeVar("F", bound=Callable[..., Any])


class RemoteFailure(click.ClickException):
    """A server said no, or nothing; `document` is the same for programs."""

    def __init__(self, message: str, code: int, document: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.exit_code = code
        self.document = document

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's
        if self.document is not None:
            import json

            click.echo(json.dumps(self.document), err=True)
        else:
            click.echo(self.message, err=True)


@dataclass(frozen=True, slots=True)
class Remote:
    """What was said about the server. `as_json`: answers, and what goes wrong, are printed as JSON."""

    url: str | None
    token: str | None
    ca_file: str | None
    as_json: bool

    @property
    def said(self) -> bool:
        """Whether somebody named a server, here or in the environment."""
        return bool(self.url or os.environ.get("OSTINATO_URL"))

    @property
    def found(self) -> bool:
        """Whether there is a server to ask: one that was named, or that runs on this machine."""
        from ostinato.server.endpoint import running_servers
        from ostinato.server.registry import RegistryError

        try:
            return self.said or bool(running_servers())
        except RegistryError:
            return False

    @contextmanager
    def client(self, sources: Sources | None = None, *, timeout_seconds: float = 60.0) -> Iterator[Client]:
        """A client of the server; what it raises within ends the command in a line and a documented code.

        Args:
            sources: the files that what is sent was made of, for the places of what is wrong in it.
            timeout_seconds: how long an answer may take.
        """
        from ostinato.server.client import Client, ClientError

        try:
            with Client(self.url, self.token, ca_file=self.ca_file, timeout_seconds=timeout_seconds) as client:
                yield client
        except ClientError as error:
            raise self.failure(error, sources) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(exits.INTERRUPTED) from None

    def failure(self, error: ClientError, sources: Sources | None = None) -> RemoteFailure:
        """The end of a command that a client's error is."""
        from ostinato.server.client import ApiError

        code = code_of(error)
        document: dict[str, Any] | None = None
        if isinstance(error, ApiError):
            text = "\n".join(_said(error, sources))
            if self.as_json:
                import msgspec

                document = msgspec.to_builtins(error.problem)
        else:
            text = f"ostinato: {error}"
            if self.as_json:
                document = {"title": type(error).__name__, "detail": str(error)}
        return RemoteFailure(text, code, document)


@dataclass(frozen=True, slots=True)
class Sources:
    """Texts of files that are sent as one text, in this order."""

    files: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """What is sent."""
        return "".join(_ended(text) for _, text in self.files)

    def place(self, line: int) -> tuple[str, str, int]:
        """The name and text of the file in which a line of what is sent stands, and its number there."""
        rest = line
        for name, text in self.files:
            lines = _ended(text).count("\n")
            if rest <= lines:
                return name, text, rest
            rest -= lines
        # behind the end of all: the end of the last file
        name, text = self.files[-1]
        return name, text, _ended(text).count("\n") + rest


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def code_of(error: ClientError) -> int:
    """The exit code of a command that ends with it."""
    from ostinato.server import client

    if isinstance(error, client.Unauthorized | client.Forbidden):
        return exits.UNAUTHORIZED
    if isinstance(error, client.Conflict | client.Stale):
        return exits.CONFLICT
    if isinstance(error, client.Unreachable | client.NoServerError | client.Unavailable | client.TooFast):
        return exits.UNREACHABLE
    return exits.REFUSED


def _said(error: ApiError, sources: Sources | None) -> list[str]:
    """A problem as lines: each thing that is wrong with its place, where it has one."""
    from ostinato.patterns.errors import Problem, Span
    from ostinato.server.client import Unauthorized

    if sources is not None and any(each.line for each in error.errors):
        lines = []
        for each in error.errors:
            if each.line is None or each.column is None:
                lines.append(f"ostinato: {each.message}" + (f"\n  {each.hint}" if each.hint else ""))
                continue
            name, text, line = sources.place(each.line)
            end_line = line + ((each.end_line or each.line) - each.line)
            span = Span(line, each.column, end_line, each.end_column or each.column + 1)
            lines.append(Problem(each.message, span, each.hint).render(text, name))
        return lines
    lines = [f"ostinato: {error}"]
    for each in error.errors:
        where = f"{each.path}: " if each.path else f"line {each.line}: " if each.line else ""
        hint = f"; {each.hint}" if each.hint else ""
        if each.message not in str(error) or where:
            lines.append(f"  {where}{each.message}{hint}")
    if isinstance(error, Unauthorized):
        lines[0] += " (a token is given with --token or OSTINATO_TOKEN)"
    return lines


_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON, and what goes wrong, too.")
_TARGET = (
    click.option(
        "--ca-file", metavar="FILE", help="Certificates by which the server is known.  [env: OSTINATO_CA_FILE]"
    ),
    click.option("--token", metavar="TOKEN", help="Who asks; better by the environment.  [env: OSTINATO_TOKEN]"),
    click.option(
        "--server",
        "url",
        metavar="URL",
        help="Which server; yours on this machine where it is not said.  [env: OSTINATO_URL]",
    ),
)


def server_options(function: F) -> F:
    """Give a command the options of the server, and `--json`; it gets them as the `remote`, a `Remote`."""
    return with_server(_JSON(function))


def with_server(function: F) -> F:
    """The same for a command that has a `--json` of its own, as `as_json`."""

    @wraps(function)
    def command(
        *args: Any, url: str | None, token: str | None, ca_file: str | None, as_json: bool, **given: Any
    ) -> Any:
        return function(*args, remote=Remote(url, token, ca_file, as_json), **given)

    for option in _TARGET:
        command = option(command)
    return command  # type: ignore[return-value]
