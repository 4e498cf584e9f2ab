"""Command groups that start fast and end with one message and the exit code that says who must act."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from fl_core.errors import FLJobError, JobError

LONGEST_LINE = 200
"""Characters of a command's first sentence in a list of commands; it is wrapped there."""


class Commands(click.Group):
    """A group whose errors are sentences, and whose commands are imported when they are called.

    `later` names each command's function as `package.module:function`, and its line in `--help`; `extra` is what
    their imports need beside the distribution itself, such as `fljob[operator]`.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's
        later: Mapping[str, tuple[str, str]] | None = None,
        extra: str = "",
        **kwargs: Any,  # noqa: ANN401 - click's
    ) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **kwargs)
        self.later = dict(later or {})
        self.extra = extra

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Keep the commands in the order they are used in."""
        return [*super().list_commands(ctx), *self.later]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command that is called."""
        if cmd_name not in self.later:
            return super().get_command(ctx, cmd_name)
        module, _, function = self.later[cmd_name][0].partition(":")
        try:
            command: click.Command = getattr(import_module(module), function)
        except ModuleNotFoundError as error:
            if not self.extra:
                raise
            raise JobError(
                f"{ctx.info_name} {cmd_name} needs the package {error.name}; install it with: "
                f"pip install '{self.extra}'"
            ) from error
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; where there is none of that name, say which one is near."""
        word = args[0]
        if not word.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, word) is None:
            near = get_close_matches(word, self.list_commands(ctx), n=1)
            ctx.fail(f"No such command {word!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        own = [(name, super(Commands, self).get_command(ctx, name)) for name in super().list_commands(ctx)]
        rows = [(name, command.get_short_help_str(LONGEST_LINE)) for name, command in own if command]
        rows += [(name, line) for name, (_, line) in self.later.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        """Run the command; turn our own errors into exit codes."""
        try:
            return super().invoke(ctx)
        except FLJobError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
