"""What pickles name by its path stays where it is: journals and nodes keep pickles of older checkouts.

A name may be added here. None may be changed: a pickle that has it loads no more.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import pickletools
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from manyhands._values import store
from manyhands.multiprocessing.reduction import dumps_bytes
from manyhands_shared import errors
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.payloads.refs import Place
from manyhands_shared.payloads.wrappers import MapChunk, Setup, StarmapChunk
from manyhands_shared.programs import task
from manyhands_shared.standard_errors import alike
from manyhands_shared.tracing import Traced

ERRORS = {
    "BrokerUnreachable",
    "ClusterClosed",
    "ConfigError",
    "InitializerFailed",
    "ManyhandsError",
    "NotAuthorised",
    "ProcessNotStarted",
    "ProgramFailed",
    "ProtocolError",
    "Refused",
    "RemoteError",
    "ResultError",
    "ResultNotLoaded",
    "ResultWithheld",
    "SharedStateLost",
    "SubmitError",
    "SubmitQueueFull",
    "SubmitRejected",
    "TaskCrashed",
    "TaskError",
    "TaskLost",
    "EnvironmentFailed",
    "TaskMemoryExceeded",
    "TaskTimeout",
}
#: Of a function that is defined in a script, and of all that goes by value with it.
SCRIPT = {
    "manyhands_shared.payloads.by_value.main_module.main_globals",
    "manyhands_shared.payloads.by_value.main_module.restore",
    "manyhands_shared.payloads.by_value.main_module.use_key",
    "manyhands_shared.payloads.by_value.reducers._cached",
    "manyhands_shared.payloads.by_value.reducers._fill_cached",
    "manyhands_shared.payloads.by_value.reducers._fill_generic",
    "manyhands_shared.payloads.by_value.reducers._fill_module",
    "manyhands_shared.payloads.by_value.reducers._module",
    "manyhands_shared.payloads.by_value.reducers._new_cached_property",
    "manyhands_shared.payloads.by_value.reducers._new_generic",
    "manyhands_shared.payloads.by_value.reducers.context_variable",
    "manyhands_shared.payloads.by_value.reducers.event",
}


def names_in(payload: Payload) -> set[str]:
    """What of ours a pickle names; it is not loaded."""
    found, memo, pushed = set(), dict[Any, Any](), list[Any]()
    head = payload[0] if isinstance(payload, tuple) else payload
    for opcode, argument, _ in pickletools.genops(bytes(head)):
        match opcode.name:
            case "MEMOIZE":
                memo[len(memo)] = pushed[-1] if pushed else None
            case "BINGET" | "LONG_BINGET":
                pushed.append(memo[argument])
            case "STACK_GLOBAL":
                found.add(".".join(pushed[-2:]))
                pushed.append(None)
            case _:
                pushed.append(argument)
    return {name for name in found if name.startswith("manyhands")}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Setup(abs, abs, (), b"key"), "Setup"),
        (MapChunk(abs), "MapChunk"),
        (StarmapChunk(abs), "StarmapChunk"),
    ],
)
def test_what_wraps_a_function(value: Any, name: str) -> None:
    assert names_in(pickled.dumps(value)) == {f"manyhands_shared.payloads.wrappers.{name}"}


def test_what_wraps_a_traced_function() -> None:
    assert names_in(pickled.dumps(Traced(abs))) == {"manyhands_shared.tracing.Traced"}


def test_errors() -> None:
    kinds = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, Exception) and kind is not errors.RemoteTraceback
    }
    assert set(kinds) == ERRORS
    for name, kind in kinds.items():
        error = kind("code", "reason") if kind is errors.Refused else kind("what happened")
        assert names_in(pickled.dumps_whole(error)) == {f"manyhands_shared.errors.{name}"}


def test_a_traceback_of_older_checkouts() -> None:
    trace = pickle.loads(b"cmanyhands_shared.errors\nRemoteTraceback\n(Vtext\ntR.")
    assert type(trace) is errors.RemoteTraceback


def test_an_error_that_is_also_one_of_pickle() -> None:
    error = alike(errors.SubmitError, "what happened", pickle.PicklingError("why"))
    assert names_in(pickle.dumps(error)) == {
        "manyhands_shared.standard_errors.alike",
        "manyhands_shared.errors.SubmitError",
    }


def test_a_stored_value_where_its_client_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    packer = SimpleNamespace(found=[])
    monkeypatch.setattr(store._packing, "packer", packer, raising=False)
    kept: Any = SimpleNamespace(place=Place(b"k" * 16, (3,), "host", "lender", b"o" * 16))
    ref = store.Ref(kept, lambda: None)
    assert names_in(pickle.dumps(ref)) == {"manyhands_shared.payloads.refs.value_of"}
    assert packer.found == [kept]


def test_a_stored_value_where_it_cannot() -> None:
    ref = store.Ref(None, lambda: 5)
    assert names_in(pickle.dumps(ref)) == {"manyhands._values.store._itself"}


def test_an_argument_whose_buffers_are_stored() -> None:
    call = store._Call(b"", [])
    assert names_in(pickle.dumps(call)) == {"manyhands_shared.payloads.refs.with_buffers"}


_SCRIPT = f"""
import contextvars, functools, sys, threading, types
sys.path[:] = {sys.path!r}
from manyhands_shared.payloads import pickled
class Kind:
    @functools.cached_property
    def value(self): return 1
@functools.lru_cache
def cached(): return 1
@functools.singledispatch
def generic(value): return value
@generic.register
def _(value: int): return value
module = types.ModuleType("made")
module.value = 1
sys.modules["made"] = module
flag, variable = threading.Event(), contextvars.ContextVar("variable", default=1)
def function(): return Kind, cached, generic, module, flag, variable
sys.stdout.buffer.write(pickled.dumps_by_value(function))
"""


def test_a_function_of_a_script_and_what_goes_with_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, timeout=100, check=True
    )
    assert names_in(done.stdout) == SCRIPT


def test_a_class_of_a_script_in_a_pipe() -> None:
    kind = type("Kind", (), {"__module__": "__main__"})
    assert names_in(dumps_bytes(kind())) == {"manyhands_shared.payloads.pickled.load_class"}


def test_what_runs_a_program() -> None:
    assert names_in(pickle.dumps(task.run)) == {"manyhands_shared.programs.task.run"}


@pytest.mark.parametrize("name", sorted(SCRIPT))
def test_each_of_these_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))
