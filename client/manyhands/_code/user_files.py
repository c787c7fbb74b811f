"""Which modules are the user's own files, that nodes cannot be expected to have.

They are neither of the standard library nor of an installed distribution. They lie beside the script,
in the working tree, on `PYTHONPATH`, or in the source of an editable install.
"""

from __future__ import annotations

import functools
import os
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path

from manyhands_shared.payloads.by_value.dynamic_modules import is_made_at_run_time

#: Ours are on every node.
_OURS = frozenset({"manyhands", "manyhands_shared", "manyhands_broker", "manyhands_worker"})
_MAINS = frozenset({"__main__", "__mp_main__"})
#: Folders of installed distributions, wherever they are.
INSTALLED: tuple[str, ...] = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


def origin_of(name: str, spec: ModuleSpec | None) -> str:
    """Return the file of a module that is the user's own; empty if it is not, or has none."""
    if spec is None or name in _MAINS or spec.name != name:
        return ""
    origin = spec.origin
    if type(origin) is not str or os.sep not in origin or not origin.endswith(_SUFFIXES):
        return ""
    top = name.partition(".")[0]
    if top in _OURS or is_installed(origin) or top in _owned(_root(name, origin)):
        return ""
    return "" if is_made_at_run_time(name) else origin


def is_installed(path: str) -> bool:
    """Whether a file is of the standard library, or lies where distributions are installed."""
    if not path.startswith(os.sep):
        path = os.path.abspath(path)  # noqa: PTH100 - as text, for a thousand modules
    return path.startswith(_folders()) or any(part in path for part in INSTALLED)


def path_in_bundle(name: str, origin: str, *, is_package: bool) -> str:
    """Return where a module's file stands in a bundle, by the module's name."""
    folder = name.replace(".", "/")
    file = Path(origin).name
    if is_package:
        return f"{folder}/__init__{file.removeprefix('__init__')}"
    return folder + file.removeprefix(name.rpartition(".")[2])


@functools.cache
def _folders() -> tuple[str, ...]:
    # 2 ms, for a process that submits something.
    import site  # noqa: PLC0415
    import sysconfig  # noqa: PLC0415

    paths = sysconfig.get_paths()
    found = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    found.update((*site.getsitepackages(), site.getusersitepackages()))
    # The standard library of the interpreter that a virtual environment was made from.
    found.add(str(Path(os.__file__).parent))
    both = {*found, *map(os.path.realpath, found)}
    return tuple(folder.rstrip(os.sep) + os.sep for folder in both)


def _root(name: str, origin: str) -> str:
    """Return the folder in which a module's first package, or the module itself, lies."""
    depth = name.count(".") + (Path(origin).stem == "__init__")
    return str(Path(origin).parents[depth]) if depth < len(Path(origin).parents) else ""


@functools.cache
def _owned(root: str) -> frozenset[str]:
    """Return the modules in a folder that distributions have installed there (`pip --target`)."""
    try:
        has_any = any(entry.endswith(".dist-info") for entry in os.listdir(root))  # noqa: PTH208
    except OSError:
        return frozenset()
    if not has_any:
        return frozenset()
    import importlib.metadata  # noqa: PLC0415 - 15 ms, for this rare case

    files = (
        file
        for distribution in importlib.metadata.distributions(path=[root])
        for file in distribution.files or ()
    )
    return frozenset(file.parts[0].removesuffix(".py") for file in files)
