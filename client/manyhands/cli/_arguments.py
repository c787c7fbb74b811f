"""A verb whose positional arguments may be negative numbers."""

from __future__ import annotations

import re

import click

from manyhands.cli._verb import Verb

_NUMBER = re.compile(r"-(\d|\.\d|inf$|nan$)")


class VerbWithValues(Verb):
    """Takes ``-1`` as a value. Anything else that looks like an option and is none is an error.

    Values behind ``--`` are taken as they are.
    """

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.ignore_unknown_options = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, then refuse unknown options among what was left for the arguments."""
        verbatim = len(args) - args.index("--") - 1 if "--" in args else 0
        rest = super().parse_args(ctx, args)
        values: tuple[str, ...] = ctx.params.get("arguments") or ()
        for value in values[: len(values) - verbatim]:
            if value.startswith("-") and value != "-" and not _NUMBER.match(value):
                name = value.partition("=")[0]
                raise click.NoSuchOption(
                    name,
                    f"no such option: {name} (put -- before arguments that begin with a dash)",
                    ctx=ctx,
                )
        return rest
