"""Making a class that travels by value.

When the script made it, the script's own `__init_subclass__` and metaclass ran. The class does not keep
the arguments that they had. What they did is among the class's attributes, which travel. So they do not
run again: without their arguments they would fail, and a registry would have the class twice.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from cloudpickle import cloudpickle

_HOOK = "__init_subclass__"
_is_by_value = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.__contains__


def make(metaclass: type, name: str, bases: tuple[Any, ...], members: dict[str, Any]) -> type:
    """Return a class without the attributes that it is filled with later.

    Args:
        metaclass: the class of the class.
        name: of the class.
        bases: as the script wrote them: such of generic types need not be classes.
        members: what it has to have from its beginning.
    """

    def plainly() -> type:
        made = cloudpickle._make_skeleton_class(metaclass, name, bases, members, None, None)
        return cast("type", made)

    own = native(metaclass)
    build = plainly if own is metaclass else lambda: _natively(own, metaclass, name, bases, members)
    owner = _hook_owner(types.resolve_bases(bases))
    if _is_by_value(owner):
        return _quietly(owner, build)
    try:
        return build()
    except TypeError:
        # The hook of a base that is installed here: with what it may have wanted it cannot be called.
        if not owner.__flags__ & _HEAP_TYPE:
            raise
        return _quietly(owner, build)


def native(metaclass: type) -> type:
    """Return what there is of a metaclass besides code of the script."""
    return next(one for one in metaclass.__mro__ if not _is_by_value(one))


#: `Py_TPFLAGS_HEAPTYPE`: of classes that were made at run time, whose attributes can be set.
_HEAP_TYPE = 1 << 9


def _natively(
    native: type, metaclass: type, name: str, bases: tuple[Any, ...], members: dict[str, Any]
) -> type:
    """Make it by that part of its metaclass which is not the script's."""
    resolved = types.resolve_bases(bases)
    space = {sys.intern(key): value for key, value in members.items()}
    if resolved is not bases:
        space["__orig_bases__"] = bases
    return cast("type", native.__new__(metaclass, name, resolved, space))


def _hook_owner(bases: tuple[Any, ...]) -> type:
    """Return the class whose `__init_subclass__` would be called."""
    classes = (one for base in bases for one in base.__mro__ if _HOOK in vars(one))
    return next((one for one in classes if one is not object), object)


def _quietly(owner: type, build: Callable[[], type]) -> type:
    with _without_hook(owner):
        return build()


@contextmanager
def _without_hook(owner: type) -> Iterator[None]:
    hook = vars(owner)[_HOOK]
    type.__setattr__(owner, _HOOK, classmethod(lambda _: None))
    try:
        yield
    finally:
        type.__setattr__(owner, _HOOK, hook)
