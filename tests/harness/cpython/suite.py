"""CPython's own tests of `multiprocessing`, with `manyhands.multiprocessing` in its place.

The interpreter's `test` package has them. Their text is taken as it is, but for what it imports. The
processes that they start import this module too, so they see no other.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

_PACKAGE = importlib.util.find_spec("test")
if _PACKAGE is None or not _PACKAGE.submodule_search_locations:
    raise ImportError("this Python has no `test` package: install the one of its tests")
SOURCE = Path(_PACKAGE.submodule_search_locations[0]) / "_test_multiprocessing.py"
_OURS = "manyhands.multiprocessing"
_IMPORT = re.compile(r"^(\s*)import multiprocessing(\.\w+)?( as \w+)?$", re.MULTILINE)
_FROM = re.compile(r"^(\s*)from multiprocessing(\.\w+)? import", re.MULTILINE)


def _import(found: re.Match[str]) -> str:
    space, module, name = found.groups("")
    if name:
        return f"{space}import {_OURS}{module}{name}"
    also = f"; import {_OURS}{module}" if module else ""
    return f"{space}import {_OURS} as multiprocessing{also}"


def rewritten(source: str) -> str:
    """Return the text of the tests with the imports changed."""
    source = _IMPORT.sub(_import, source)
    source = _FROM.sub(rf"\1from {_OURS}\2 import", source)
    return source.replace("from test._test_multiprocessing import", f"from {__name__} import")


# Tests look for files beside their own, and for their own in tracebacks.
__file__ = str(SOURCE)
exec(compile(rewritten(SOURCE.read_text(encoding="utf-8")), __file__, "exec"), globals())
