"""docs/cli.md and docs/client.md against what there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import click.testing
import pytest

from ostinato.server.cli import _COMMANDS, cli
from ostinato.server.client import AsyncClient, Client
from ostinato.server.http.routes import ROUTES
from ostinato.server.http.routing import WEBSOCKET

DOCS = Path(__file__).parents[3] / "docs"
EVERYWHERE = {"--server", "--token", "--ca-file", "--json", "--help"}
ELSEWHERE = {"server": "configuration.md", "config": "configuration.md", "state": "state.md"}
"""Commands whose options another page has."""


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in _COMMANDS:
        command = import_module(f"ostinato.server.commands.{name}").command
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_is_in_the_overview(name: str) -> None:
    overview = (DOCS / "cli.md").read_text().partition("\n## ")[0]
    assert re.search(rf"^    ostinato {name}\b", overview, re.MULTILINE)


@pytest.mark.parametrize(("name", "command"), [pytest.param(*each, id=each[0]) for each in commands()])
def test_every_option_is_in_the_docs(name: str, command: click.Command) -> None:
    page = DOCS / ELSEWHERE.get(name.split()[0], "cli.md")
    text = page.read_text() + (DOCS / "cli.md").read_text()
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or EVERYWHERE & set(parameter.opts):
            continue
        assert any(re.search(rf"`?{option}\b", text) for option in parameter.opts), f"{name} {parameter.opts}"


@pytest.mark.parametrize(("name", "command"), [pytest.param(*each, id=each[0]) for each in commands()])
def test_every_command_says_what_it_does(name: str, command: click.Command) -> None:
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_help_names_every_command_in_a_section() -> None:
    shown = click.testing.CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    for name in _COMMANDS:
        assert re.search(rf"^  {name} ", shown.output, re.MULTILINE)


def test_every_method_of_the_client_is_in_its_page() -> None:
    text = (DOCS / "client.md").read_text()
    table = set(re.findall(r"`(\w+)`", text.partition("## Methods")[2].partition("A list comes in pages")[0]))
    routes = {route.name for route in ROUTES if route.method != WEBSOCKET} - {"follow_matches"}
    assert routes | {"send", "follow"} <= table
    for name in routes | {"send", "follow", "every", "do", "close"}:
        assert hasattr(Client, name)
        assert hasattr(AsyncClient, name)


def test_examples_of_the_client_are_python_and_name_what_there_is() -> None:
    import ostinato.server.client as package

    examples = re.findall(r"```python\n(.*?)```", (DOCS / "client.md").read_text(), re.DOTALL)
    assert examples
    for example in examples:
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and node.module == package.__name__:
                assert {alias.name for alias in node.names} <= set(package.__all__)
