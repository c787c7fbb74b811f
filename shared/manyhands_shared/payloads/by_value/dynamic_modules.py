"""Modules that a script has made itself, and that another process cannot import by their names."""

from __future__ import annotations

import os
import sys
from types import ModuleType

from manyhands_shared.processes.signal_handlers import is_from_handler

#: What was found of modules, which does not change: by name, the module and whether it was made.
_known: dict[str, tuple[ModuleType, bool]] = {}
#: How many modules there were when they were last looked through, and the names of those made.
_looked: tuple[int, tuple[bytes, ...]] = (0, (b"__main__",))
#: Modules that Cython's extensions make in each process for themselves. ZeroMQ's are such, so they are
#: everywhere, and each name to look for takes a tenth of the time that it takes to pickle numbers.
_OF_EXTENSIONS = ("cython_runtime", "_cython_")


def names_made_at_run_time() -> tuple[bytes, ...]:
    """Return `__main__` and the names of all such modules, as they stand in a pickle.

    Quick while no module is added.
    """
    global _looked  # noqa: PLW0603 - a cache of two values that change together
    if len(sys.modules) != _looked[0]:
        # Another thread may import meanwhile: of what comes then, the next call takes note.
        modules = list(sys.modules.items())
        suspects = [name for name, module in modules if _is_suspect(name, module)]
        names = tuple(name.encode() for name in suspects if is_made_at_run_time(name))
        _looked = len(modules), (b"__main__", *names)
    return _looked[1]


def _is_suspect(name: str, module: object) -> bool:
    """Whether it is worth to look for a module, which takes long."""
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    if name.startswith(_OF_EXTENSIONS):
        return False
    if spec is None or "." in name or not isinstance(origin, str) or os.sep not in origin:
        return spec is None and type(module) is ModuleType
    folder = os.path.dirname(origin)  # noqa: PTH120 - a thousand times
    return folder not in sys.path and os.path.dirname(folder) not in sys.path  # noqa: PTH120


def is_made_at_run_time(name: str | None) -> bool:
    """Whether this is the name of a module that is here, and that no import would find."""
    module = sys.modules.get(name or "")
    if module is None or name is None or name in ("__main__", "__mp_main__"):
        return False
    known = _known.get(name)
    if known is None or known[0] is not module:
        known = _known[name] = module, not _can_be_found(name, module)
    return known[1]


def _can_be_found(name: str, module: ModuleType) -> bool:
    if name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return True
    parent, _, _ = name.rpartition(".")
    if parent and getattr(module, "__spec__", None) is None:
        # Libraries put such names below their own, as `six.moves`; importing the parent makes them.
        return not is_made_at_run_time(parent)
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    for finder in sys.meta_path:
        try:
            if finder.find_spec(name, path) is not None:
                return True
        except Exception as error:  # of finders of others
            if is_from_handler(error):
                raise
    return False
