"""Click commands whose help leads with examples, and groups of them."""

from __future__ import annotations

import inspect
from typing import Any

import click

from manyhands.cli import _user_files
from manyhands.cli._user_files import NO_ROOM


class NoVerb(click.UsageError):
    """A group was called without one of its verbs; the text is the group's help."""


class VerbGroup(click.Group):
    """A group that shows its help when it is called alone, whatever version of click there is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does."""
        if not args and not ctx.resilient_parsing:
            raise NoVerb(ctx.get_help(), ctx)
        return super().parse_args(ctx, args)


class Verb(click.Command):
    """A command with `examples`: pairs of a comment and the line to type."""

    def __init__(
        self, *args: Any, examples: tuple[tuple[str, str], ...] = (), **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.examples = examples

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. What the system says of a file that the user named is one line."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno not in NO_ROOM:
                _user_files.refuse_if_named(error, ctx.params)
            raise

    def format_help_text(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """What it does in a sentence, then examples, then the rest."""
        summary, _, rest = inspect.cleandoc(self.help or "").partition("\n\n")
        write_help(formatter, summary, self.examples)
        for paragraph in filter(None, rest.split("\n\n")):
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(paragraph)


def write_help(
    formatter: click.HelpFormatter, summary: str, examples: tuple[tuple[str, str], ...]
) -> None:
    """Write a summary and, below it, examples that can be pasted."""
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(" ".join(summary.split()))
    if examples:
        with formatter.section("Examples"):
            for comment, line in examples:
                if comment:
                    formatter.write(f"{'':{formatter.current_indent}}# {comment}\n")
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
