"""Functions: how they travel, and that a change is noticed."""

from __future__ import annotations

import colorsys
import functools
import math
import operator
import pickle
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from manyhands._submit import fingerprint, functions
from manyhands._submit.fingerprint import Fingerprint
from manyhands_shared.errors import SubmitError
from manyhands_shared.protocol.messages import Function


def made(source: str, name: str = "f", **namespace: Any) -> Any:
    """A function as a script would define it: in a namespace of its own, not importable."""
    space: dict[str, Any] = {"__name__": "__main__", **namespace}
    exec(source, space)
    return space[name]


def blob(function: Function) -> bytes:
    (body,) = function.bodies
    assert isinstance(body, bytes)
    return body


@pytest.mark.parametrize(
    "function", [abs, math.sqrt, operator.add, functools.reduce, dict, str.upper]
)
def test_importable_functions_go_by_reference(function: Any) -> None:
    packed = functions.pack(function)
    assert len(blob(packed)) < 300
    assert pickle.loads(blob(packed)) is function
    assert functions.fingerprint(function) is None


@pytest.mark.parametrize(
    "function",
    [lambda x: x + 1, made("def f(x): return x + 1"), functools.partial(operator.add, 1)],
)
def test_others_go_by_value(function: Callable[[int], int]) -> None:
    assert pickle.loads(blob(functions.pack(function)))(2) == 3


def test_equal_functions_have_one_digest() -> None:
    makers = [made("def f(x): return x * 2") for _ in range(2)]
    assert functions.pack(makers[0]).digest == functions.pack(makers[1]).digest
    assert functions.pack(makers[0]).digest != functions.pack(made("def f(x): return x")).digest


def test_what_cannot_be_pickled_is_named() -> None:
    held = threading.Lock()
    with pytest.raises(SubmitError, match="cannot pickle"):
        functions.pack(lambda: held)


def test_a_module_registered_by_value_is_not_importable() -> None:
    assert fingerprint.importable(colorsys.rgb_to_hsv)
    cloudpickle.register_pickle_by_value(colorsys)
    try:
        assert not fingerprint.importable(colorsys.rgb_to_hsv)
    finally:
        cloudpickle.unregister_pickle_by_value(colorsys)


def test_a_module_made_at_run_time_is_not_importable() -> None:
    module = types.ModuleType("some_users_module")
    exec("def f(): return 1", vars(module))
    sys.modules[module.__name__] = module
    try:
        assert not fingerprint.importable(module.f)
    finally:
        del sys.modules[module.__name__]


def test_a_fingerprint_holds_while_nothing_changes() -> None:
    f = made("def f(x, y=2): return g(x) + K + len(D)\ndef g(x): return x", K=1, D={})
    print_ = Fingerprint(f)
    assert print_.holds()
    assert print_.holds()


class Config:
    scale = 1


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.__globals__.update(K=object()),
        lambda f: f.__globals__.update(g=lambda x: x),
        lambda f: f.__globals__.update(undefined_yet=1),
        lambda f: f.__globals__.update(INNER=2),
        lambda f: setattr(f, "__defaults__", (3,)),
        lambda f: setattr(f, "__code__", (lambda x, y=2: x).__code__),
        lambda f: f.__globals__["D"].update(a=1),
        lambda f: f.__globals__["L"].append(1),
        lambda f: f.__globals__["L"].__setitem__(0, 5),
        lambda f: setattr(f.__globals__["O"], "scale", 7),
        lambda f: f.__globals__["g"].__globals__.update(DEEP=2),
    ],
)
def test_a_fingerprint_notices(change: Callable[[Any], None]) -> None:
    f = made(
        "def f(x, y=2):\n"
        "    if x: return undefined_yet\n"
        "    return g(x) + K + len(D) + len(L) + O.scale + (lambda: INNER)()\n"
        "def g(x): return x + DEEP\n",
        K=1,
        D={},
        L=[1000],
        O=Config(),
        INNER=1,
        DEEP=1,
    )
    fingerprint = Fingerprint(f)
    assert fingerprint.holds()
    change(f)
    assert not fingerprint.holds()


def test_a_fingerprint_notices_a_rebound_closure_variable() -> None:
    def outer() -> tuple[Any, Callable[[], None]]:
        value = 1

        def rebind() -> None:
            nonlocal value
            value = 2

        return lambda: value, rebind

    function, rebind = outer()
    fingerprint = functions.fingerprint(function)
    assert fingerprint is not None
    assert fingerprint.holds()
    rebind()
    assert not fingerprint.holds()


def test_recursive_functions_end() -> None:
    f = made("def f(x): return g(x)\ndef g(x): return f(x) if x else 0")
    assert Fingerprint(f).holds()


def test_names_for_people() -> None:
    assert functions.describe(abs) == "abs"
    assert functions.describe(math.sqrt) == "math.sqrt"
    assert functions.describe(made("def f(): pass")) == "f"
    assert functions.describe(functools.partial(abs)) == "functools.partial"
