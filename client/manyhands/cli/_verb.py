"""A click command whose help leads with examples."""

from __future__ import annotations

import inspect
from typing import Any

import click


class Verb(click.Command):
    """A command with `examples`: pairs of a comment and the line to type."""

    def __init__(
        self, *args: Any, examples: tuple[tuple[str, str], ...] = (), **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.examples = examples

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
