"""``module:function`` on the command line, and the values behind it."""

from __future__ import annotations

import ast
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from manyhands_shared.errors import ConfigError


def load(target: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; modules of the working directory come first.

    Those modules travel by value, so that no node needs a copy of the user's file.

    Raises:
        ConfigError: there is no such thing, or importing it failed.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise ConfigError(
            f"{target!r} names no function; write MODULE:FUNCTION, as in math:factorial"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _import(module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(
                f"{module_name} has no {path!r}; check the name behind the colon"
            ) from None
    if not callable(found):
        raise ConfigError(
            f"{target} is {type(found).__name__}, which cannot be called; name a function"
        )
    _send_by_value(Path(here))
    function: Callable[..., Any] = found
    return function


def literal(text: str) -> Any:
    """The Python literal that `text` is, else `text` itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def keyword(text: str) -> tuple[str, Any]:
    """``name=value``, the value as `literal` reads it.

    Raises:
        ConfigError: it is not of that form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigError(f"--kwarg {text!r} is not NAME=VALUE")
    return name, literal(value)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"no module named {error.name!r} in {Path.cwd()} or among the installed packages"
            ) from None
        raise ConfigError(f"importing {name} failed: {_where(error)}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may do anything
        raise ConfigError(f"importing {name} failed: {_where(error)}") from None


def _where(error: BaseException) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<frozen importlib")
    ]
    text = "".join(traceback.format_exception_only(error)[-1:]).strip()
    own = [frame for frame in frames if os.sep + "importlib" + os.sep not in frame.filename]
    return f"{text} ({own[-1].filename}, line {own[-1].lineno})" if own else text


def _send_by_value(folder: Path) -> None:
    """Have cloudpickle send whole every top-level module or package that lies in `folder`."""
    for name, module in list(sys.modules.items()):
        if "." not in name and name != "__main__" and not name.startswith("manyhands"):
            file = getattr(module, "__file__", None)
            places = [Path(file)] if file else []
            places += [Path(place) for place in getattr(module, "__path__", ())]
            if any(
                folder in (place.parent, place.parent.parent) and _lies_in(folder, place, name)
                for place in places
            ):
                cloudpickle.register_pickle_by_value(module)


def _lies_in(folder: Path, place: Path, name: str) -> bool:
    """Whether `place` is ``folder/name.*``, ``folder/name`` or ``folder/name/__init__.*``."""
    return (place.parent == folder and place.name.partition(".")[0] == name) or (
        place.parent == folder / name and place.name.partition(".")[0] == "__init__"
    )
