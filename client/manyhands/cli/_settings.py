"""Options from outside: a TOML file, then the environment, then flags, each over the one before.

The file is ``$MANYHANDS_CONFIG``, else ``manyhands.toml`` here, else
``~/.config/manyhands/manyhands.toml``; one table for each command. Values are checked by pydantic
against the dataclasses of `config`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_origin

from manyhands_shared import small_file
from manyhands_shared.config import constraints, hints
from manyhands_shared.errors import ConfigError

T = TypeVar("T")

#: The file of a working directory, which another user may have put there.
HERE = Path("manyhands.toml")


class File(NamedTuple):
    """A configuration file: where it is, and its tables."""

    place: Path | None
    tables: dict[str, Any]


def load_file(environ: Mapping[str, str] = os.environ) -> File:
    """Read the configuration file; without one there is no place, and no table.

    Raises:
        ConfigError: the named file is missing or is not TOML, or the one of the working directory
            can be written by others than the caller.
    """
    named = environ.get("MANYHANDS_CONFIG")
    home = Path(environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser())
    places = [Path(named)] if named else [HERE, home / "manyhands/manyhands.toml"]
    for place in places:
        try:
            with place.open("rb") as file:
                if place is HERE:
                    _check_owner(os.fstat(file.fileno()))
                import tomllib  # noqa: PLC0415 - for those who have such a file

                text = small_file.rest(file.fileno()).decode()
                return File(place, _without_zeros(tomllib.loads(text)))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"cannot read the configuration file {place}: {why}") from None
    if named:
        raise ConfigError(f"MANYHANDS_CONFIG names {named}, which is not there")
    return File(None, {})


def _without_zeros(tables: dict[str, Any]) -> dict[str, Any]:
    """Refuse what no argument and no variable can hold: no name of a file has it.

    Raises:
        ValueError: a text has a zero byte.
    """
    if _has_zero(tables):
        raise ValueError("a text in it has a zero byte")
    return tables


def _has_zero(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_zero, (*value, *value.values())))
    if isinstance(value, list):
        return any(map(_has_zero, value))
    return isinstance(value, str) and "\0" in value


def _check_owner(found: os.stat_result) -> None:
    """Raise `ConfigError` if another user decides what the file of the working directory says."""
    if found.st_uid not in (0, os.getuid()) or found.st_mode & stat.S_IWOTH:
        raise ConfigError(
            f"another user can write {HERE} in this directory (it may name brokers and keys); "
            f"if you trust it, name it with --config {HERE}"
        )


def validate(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build the options dataclass `kind` from `values` (text is converted where that is plain).

    Raises:
        ConfigError: one line that names the option and what is wrong with it.
    """
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown option {name!r}; there are: {', '.join(sorted(known))}")
    chosen = {name: value for name, value in values.items() if not _is(value, known[name].default)}
    if not chosen or all(_is_free_text(hints(kind)[name], value) for name, value in chosen.items()):
        return kind(**values)
    return _converted(kind, values)


def _converted(kind: type[T], values: Mapping[str, Any]) -> T:
    # Most commands need no pydantic: it takes 0.1 s, longer than all the rest of their imports.
    from pydantic import ValidationError, create_model  # noqa: PLC0415

    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    try:
        parts: dict[str, Any] = {
            name: (hint, known[name].default) for name, hint in constraints(kind).items()
        }
        return kind(**dict(create_model(kind.__name__, **parts).model_validate(values)))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"option {name!r}: {first['msg']} (got {first['input']!r})") from None


def _is(value: object, default: object) -> bool:
    return type(value) is type(default) and value == default


def _is_free_text(hint: Any, value: object) -> bool:
    """Whether an option may be any text, and this is one that needs no look at its characters."""
    if get_origin(hint) is Annotated and all(isinstance(note, str) for note in hint.__metadata__):
        hint = hint.__origin__
    return hint is str and type(value) is str and value.isascii()
