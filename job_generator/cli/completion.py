"""`fl-submit completion`: the script that makes a shell complete this command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes your shell complete fl-submit.

    \b
    Examples:
      fl-submit completion bash >> ~/.bashrc
      fl-submit completion zsh >> ~/.zshrc
      fl-submit completion fish > ~/.config/fish/completions/fl-submit.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is a shell that click does not know")
    root = context.find_root()
    click.echo(kind(root.command, {}, "fl-submit", "_FL_SUBMIT_COMPLETE").source())
