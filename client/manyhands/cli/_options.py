"""Flags made of the fields of the options dataclasses, so that nothing is written twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import click

from manyhands import _durations as durations
from manyhands.cli._duration import DURATION
from manyhands_shared.config import ClientConfig, hints

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Options that every command which has them also takes from one variable.
_SHARED_VARIABLES = {
    "broker": "MANYHANDS_BROKER",
    "key_file": "MANYHANDS_KEY_FILE",
    "connect_timeout": "MANYHANDS_CONNECT_TIMEOUT",
}
_METAVARS = {
    "broker": "ADDRESS",
    "bind": "ADDRESS",
    "http": "HOST:PORT",
    "http_hosts": "NAMES",
    "journal": "DIRECTORY",
    "key_file": "FILE",
    "allow_file": "FILE",
    "data_address": "ADDRESS",
    "name": "NAME",
}
#: Seconds that may be written with a unit.
_DURATIONS = (
    *("beat_interval", "connect_timeout", "drain_timeout", "keep_results"),
    *("idle_timeout", "lease", "session_grace", "time_limit"),
)


class _Named(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The name or id of something that the broker knows."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip():
            self.fail("it is empty; see: manyhands jobs, manyhands nodes", param, ctx)
        return value


NAMED = _Named()


def config_options(
    kind: type, command: str, names: Iterable[str] = ()
) -> Callable[[Decorated], Decorated]:
    """A decorator that adds a flag for each field of `kind` (or for those named).

    The range of a number is left to `settings.validate`, which says it for every source alike.
    """
    chosen = set(names)

    def add(function: Decorated) -> Decorated:
        types = hints(kind)
        for field in reversed(fields(kind)):
            if not chosen or field.name in chosen:
                default = None if field.default is MISSING else field.default
                function = _option(command, field.name, types[field.name], default)(function)
        return function

    return add


def client_options(command: str) -> Callable[[Decorated], Decorated]:
    """The flags of a verb that talks to a broker."""
    return config_options(ClientConfig, command, ("broker", "key_file", "connect_timeout"))


def json_option(function: Decorated) -> Decorated:
    """``--json``."""
    return click.option("--json", is_flag=True, help="Print one versioned JSON document.")(function)


def summary_option(function: Decorated) -> Decorated:
    """``--json`` of a verb whose results are JSON lines."""
    return click.option(
        "--json",
        is_flag=True,
        help="Print one versioned JSON document at the end: how many there were, and failed.",
    )(function)


def output_option(function: Decorated) -> Decorated:
    """``--output``, as `sink`: a text file that is opened at the first line."""
    return click.option(
        "--output",
        "sink",
        type=click.File("w", encoding="utf-8", lazy=True),
        default="-",
        show_default="stdout",
        help="Where the results go, as JSON lines.",
    )(function)


def nan_option(function: Decorated) -> Decorated:
    """``--allow-nan``."""
    return click.option(
        "--allow-nan",
        is_flag=True,
        help="Write NaN and Infinity in JSON, as Python reads them; else such a result is an error.",
    )(function)


def _option(command: str, name: str, hint: Any, default: Any) -> Callable[[Decorated], Decorated]:
    base: Any
    base, notes = _unwrap(hint)
    text = next((note for note in notes if isinstance(note, str)), "")
    flag = f"--{name.replace('_', '-')}"
    own = f"MANYHANDS_{command}_{name}".upper()
    variables = [own, *filter(None, [_SHARED_VARIABLES.get(name)])]
    if base is bool:
        flag = f"{flag}/--no-{name.replace('_', '-')}"
    shown: bool | str = default not in ("", None)
    if name in _DURATIONS:
        base, shown = DURATION, durations.show(default)
    if name == "broker":
        return click.option(
            flag,
            name,
            cls=_Addresses,
            multiple=True,
            default=[default] if default else [],
            callback=lambda _context, _parameter, values: ",".join(values),
            envvar=variables,
            metavar=_METAVARS[name],
            help=f"{text[:-1]}: with commas, or repeated.",
            show_default=bool(shown),
        )
    return click.option(
        flag,
        name,
        type=base,
        default=default,
        envvar=variables,
        metavar=_METAVARS.get(name),
        help=text,
        show_default=shown,
    )


class _Addresses(click.Option):
    """May be given several times; from the environment or a file, as one text with commas."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return super().type_cast_value(ctx, [value] if isinstance(value, str) else value)

    def value_from_envvar(self, ctx: click.Context) -> Any:
        return self.resolve_envvar_value(ctx)


def _unwrap(hint: Any) -> tuple[type, tuple[Any, ...]]:
    """The plain type of a field, and everything that its annotation says about it."""
    return getattr(hint, "__origin__", hint), getattr(hint, "__metadata__", ())
