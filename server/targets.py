"""Addresses of checkpoint stores and savepoints as the command line gives and shows them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ostinato.server import exits

if TYPE_CHECKING:
    from ostinato.state.savepoints import Place

_SCHEME = re.compile(r"[a-z][a-z0-9+]*://")


def absolute_address(target: str | None) -> str | None:
    """An address that means the same to a process in another working folder."""
    if target is None or (_SCHEME.match(target) and not target.startswith("file://")):
        return target
    path = target.removeprefix("file://") if target.startswith("file://") else target.removeprefix("file:")
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - links are left as they are


def address_of_savepoint(store: str, job: str, id: int, *, savepoint: bool = True) -> str:  # noqa: A002
    """The address under which `ostinato.state.savepoints.resolve` finds it again."""
    name = f"{'sp' if savepoint else 'chk'}-{id}"
    if _SCHEME.match(store):
        return f"{store}#{job}/{name}"
    return store if os.path.basename(store) == name else os.path.join(store, name)  # noqa: PTH118, PTH119


@contextmanager
def opened(address: str, job: str | None) -> Iterator[list[Place]]:
    """What an address means: one place, or those of all jobs of a Redis. Errors end the command in one line."""
    from ostinato.state.errors import StateError
    from ostinato.state.savepoints import places

    try:
        found = places(address, job=job or "")
        try:
            yield found
        finally:
            for place in found:
                place.store.close()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except StateError as error:
        raise StateFailure(str(error)) from error


class StateFailure(click.ClickException):
    """Stored state cannot be used."""

    exit_code = exits.STATE

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's
        click.echo(f"ostinato: {self.message}", err=True)
