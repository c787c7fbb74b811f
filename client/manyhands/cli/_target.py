"""``module:function`` on the command line, and the values behind it."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
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
    if "/" in module_name or module_name.endswith(".py"):
        file = Path(module_name)
        where = "" if file.parent == Path() else f", in {file.parent}"
        raise ConfigError(
            f"{module_name} is a file; name its module, as in {file.stem}:{path}{where}"
        )
    here = find_modules_here()
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
    _send_by_value(here)
    function: Callable[..., Any] = found
    return function


def find_modules_here() -> Path:
    """Have imports look in the working directory first; returns it."""
    here = Path.cwd()
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    return here


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
    """The error in one line, with the place in the user's code that it came from."""
    text = "".join(traceback.format_exception_only(error)[-1:]).strip()
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__)
        and not frame.filename.startswith("<frozen importlib")
    ]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def code_digest(function: Callable[..., Any]) -> str:
    """A digest of a function's source: its module's, and those of modules of the working directory."""
    here = Path.cwd()
    own = {name for name, module in _top_level_modules() if here in _places(module)}
    modules = {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in own
    }
    if (name := getattr(function, "__module__", None)) in sys.modules:
        modules[name] = sys.modules[name]
    state = hashlib.blake2b(digest_size=16)
    for name, module in sorted(modules.items()):
        file = getattr(module, "__file__", None)
        # A compiled one changes with its package alone.
        if file and file.endswith(".py"):
            with contextlib.suppress(OSError):
                source = Path(file).read_bytes()
                state.update(f"{name} {len(source)}\n".encode() + source)
    return state.hexdigest()


def _top_level_modules() -> list[tuple[str, ModuleType]]:
    """Top-level modules and packages that are loaded, but for ours and the script itself."""
    return [
        (name, module)
        for name, module in list(sys.modules.items())
        if "." not in name and name != "__main__" and not name.startswith("manyhands")
    ]


def _send_by_value(folder: Path) -> None:
    """Have cloudpickle send whole every top-level module or package that lies in `folder`."""
    for _, module in _top_level_modules():
        if folder in _places(module):
            cloudpickle.register_pickle_by_value(module)


def _places(module: ModuleType) -> list[Path]:
    """The folders in which a module, or a package of either kind, lies."""
    file = getattr(module, "__file__", None)
    places = list(getattr(module, "__path__", ())) or ([file] if file else [])
    return [Path(place).parent for place in places]
