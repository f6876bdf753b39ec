"""`ostinato completion`: what a shell needs to complete the command line."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    r"""Print what makes SHELL complete commands and options.

    \b
    bash:  echo 'eval "$(ostinato completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(ostinato completion zsh)"' >> ~/.zshrc
    fish:  ostinato completion fish > ~/.config/fish/completions/ostinato.fish
    """
    from click.shell_completion import get_completion_class

    from ostinato.server.cli import cli

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "ostinato", "_OSTINATO_COMPLETE").source())
