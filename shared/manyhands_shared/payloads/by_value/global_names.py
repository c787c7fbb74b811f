"""Names that a function looks up among its globals, in the code nested in it too.

The body of a class looks its names up in the class first, and among the globals then. cloudpickle leaves
those out: a class that is made inside a function would miss them.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Container, Iterator
from types import CodeType

from manyhands_shared.payloads.by_value.text_lookups import nested

_GLOBAL = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
#: In the bodies of classes.
_LOAD = frozenset({"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"})
#: What may stand between the names of `a.b`, and between those of `from a import b, c`.
_BETWEEN = frozenset({"EXTENDED_ARG", "PUSH_NULL", "STORE_DEREF", "STORE_NAME"})
#: Each class has these, from where it is made.
_OF_CLASSES = frozenset({"__name__", "__module__", "__qualname__"})


def global_names(code: CodeType) -> dict[str, None]:
    """Return the names, in the order of the code."""
    return dict.fromkeys(name for one in nested(code) for name in _names(one))


def owners(code: CodeType, wanted: Container[str]) -> Iterator[str]:
    """Give the global or imported module that each wanted name is taken from; empty for others."""
    for one in nested(code):
        before = ""
        imported: dict[str, str] = {}
        for step in dis.get_instructions(one):
            if step.opname in _GLOBAL or step.opname in _LOAD or step.opname == "IMPORT_NAME":
                before = step.argval
                if before in wanted:
                    yield before
            elif step.opname in _ATTRIBUTE:
                if step.argval in wanted:
                    yield before
                # What follows is taken from the attribute; further names, from the same module.
                before = before if step.opname == "IMPORT_FROM" else ""
            elif step.opname == "STORE_FAST":
                imported[step.argval] = before
            elif step.opname.startswith("LOAD_FAST"):
                before = imported.get(step.argval, "")
            elif step.opname not in _BETWEEN:
                before = ""


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
