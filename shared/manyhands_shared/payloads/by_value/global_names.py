"""Names that a function looks up among its globals, in the code nested in it too.

The body of a class looks its names up in the class first, and among the globals then. cloudpickle leaves
those out: a class that is made inside a function would miss them.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from types import CodeType

from manyhands_shared.payloads.by_value.text_lookups import nested

_GLOBAL = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
#: In the bodies of classes.
_LOAD = frozenset({"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
#: Each class has these, from where it is made.
_OF_CLASSES = frozenset({"__name__", "__module__", "__qualname__"})


def global_names(code: CodeType) -> dict[str, None]:
    """Return the names, in the order of the code."""
    return dict.fromkeys(name for one in nested(code) for name in _names(one))


def _names(code: CodeType) -> Iterator[str]:
    is_class_body = not code.co_flags & inspect.CO_OPTIMIZED
    made = set(_OF_CLASSES)
    for one in dis.get_instructions(code):
        if one.opname in _GLOBAL:
            yield one.argval
        elif is_class_body and one.opname == "STORE_NAME":
            made.add(one.argval)
        elif is_class_body and one.opname in _LOAD and one.argval not in made:
            yield one.argval
