"""Contexts and start methods: all are accepted, and mean the same."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from typing import Any

import pytest

import manyhands.multiprocessing as mp
from manyhands.multiprocessing import context, reduction
from manyhands.multiprocessing.context import Context


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No start method was chosen."""
    monkeypatch.setattr(context._method, "chosen", None)


def test_importing_starts_and_connects_nothing() -> None:
    code = (
        "import sys, threading, manyhands.multiprocessing as mp; mp.Process; mp.get_context(); "
        "assert threading.active_count() == 1; "
        "print([m for m in ('zmq', 'manyhands._io.connection') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_there() -> None:
    for name in mp.__all__:
        assert getattr(mp, name) is not None
    assert set(mp.__all__) <= set(dir(mp))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        mp.Nothing  # noqa: B018
    assert mp.TimeoutError is multiprocessing.TimeoutError
    assert issubclass(mp.Process, multiprocessing.process.BaseProcess)


def test_start_methods() -> None:
    assert mp.get_start_method(allow_none=True) is None
    assert mp.get_start_method() == "spawn"
    assert mp.get_all_start_methods() == ["spawn", "fork", "forkserver"]
    mp.set_start_method("fork")
    assert mp.get_start_method() == "fork"
    with pytest.raises(RuntimeError, match="already been set"):
        mp.set_start_method("spawn")
    mp.set_start_method("forkserver", force=True)
    with pytest.raises(ValueError, match="'other'"):
        mp.set_start_method("other", force=True)


@pytest.mark.parametrize("method", [None, "spawn", "fork", "forkserver"])
def test_contexts(method: str | None) -> None:
    found = mp.get_context(method)
    assert isinstance(found, Context)
    assert isinstance(found, multiprocessing.context.BaseContext)
    assert issubclass(found.Process, mp.Process)
    # As the standard library's are called.
    assert found.Process.__name__.lower() == f"{method or ''}process"
    assert type(found).__name__.lower() == f"{method or ''}context"
    assert found.get_start_method() == (method or "spawn")
    assert found.cpu_count() == mp.cpu_count()
    assert found.current_process() is multiprocessing.current_process()
    assert found.get_context() is found
    assert found.TimeoutError is multiprocessing.TimeoutError
    if method is not None:
        with pytest.raises(ValueError, match="concrete context"):
            found.set_start_method("spawn")


def test_an_unknown_context_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot find context for 'other'"):
        mp.get_context("other")


def test_pickling_notes_what_is_carried() -> None:
    class Primitive:
        def __init__(self, key: bytes) -> None:
            self.key = key

        def __reduce__(self) -> tuple[Any, ...]:
            reduction.carry(self.key)
            return bytes, (self.key,)

    keys = [bytes([n]) * 16 for n in range(3)]
    found = reduction.dumps([Primitive(keys[0]), Primitive(keys[1]), Primitive(keys[0])])
    assert found.carries == keys[0] + keys[1]
    assert reduction.loads(found.payload) == [keys[0], keys[1], keys[0]]
    assert reduction.dumps("plain").carries == b""
    reduction.carry(keys[2])


def test_large_buffers_stay_outside() -> None:
    data = bytearray(b"x" * 100_000)
    import pickle

    found = reduction.dumps(pickle.PickleBuffer(data))
    assert isinstance(found.payload, tuple)
    assert bytes(reduction.loads(found.payload)) == bytes(data)


def test_modules_are_there() -> None:
    code = (
        "import manyhands.multiprocessing as mp, multiprocessing.connection, multiprocessing.util; "
        "import multiprocessing.dummy, manyhands.multiprocessing.dummy; "
        "from manyhands.multiprocessing import connection, util; "
        "from manyhands.multiprocessing.connection import wait; "
        "assert connection is mp.connection; "
        "assert connection.Listener is multiprocessing.connection.Listener; "
        "assert util is multiprocessing.util; assert mp.dummy is multiprocessing.dummy; "
        "assert mp.process.BaseProcess is multiprocessing.process.BaseProcess; "
        "assert mp.process._dangling is multiprocessing.process._dangling; "
        "assert mp.context.assert_spawning is multiprocessing.context.assert_spawning; "
        "assert mp.reduction.ForkingPickler is multiprocessing.reduction.ForkingPickler; "
        "assert mp.reducer is mp.reduction"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
