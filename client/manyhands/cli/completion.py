"""`manyhands completion`: the script that makes a shell complete the command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from manyhands.cli import _output
from manyhands.cli._options import json_option
from manyhands.cli._verb import Verb


@click.command(
    cls=Verb,
    name="completion",
    examples=(
        ("bash, from the next shell on", "manyhands completion bash >> ~/.bashrc"),
        ("zsh", "manyhands completion zsh >> ~/.zshrc"),
        ("fish", "manyhands completion fish > ~/.config/fish/completions/manyhands.fish"),
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@click.pass_context
def command(ctx: click.Context, shell: str, *, json: bool) -> None:
    """Print a script that makes the shell complete this command."""
    kind = get_completion_class(shell)
    assert kind is not None, shell
    script = kind(ctx.find_root().command, {}, "manyhands", "_MANYHANDS_COMPLETE")
    text = script.source_template % script.source_vars()
    if json:
        _output.document(shell=shell, script=text)
    else:
        click.echo(text)
