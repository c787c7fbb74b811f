"""Whatever `multiprocessing` has is here too, and can be called alike."""

from __future__ import annotations

import inspect
import multiprocessing
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

import manyhands.multiprocessing as mp

MODULES = (
    *("connection", "context", "managers", "pool", "process", "queues", "reduction"),
    *("sharedctypes", "shared_memory", "synchronize", "util", "dummy"),
)


def names(module: Any) -> set[str]:
    """The public names of a module, without what it imports from outside of the package."""
    listed = set(getattr(module, "__all__", ()))
    found = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and str(getattr(value, "__module__", module.__name__)).startswith("multiprocessing")
    }
    return listed | found


def test_every_name_of_the_module_is_there() -> None:
    wanted = {name for name in dir(multiprocessing) if not name.startswith("_")} - {"sys"}
    wanted -= {name for name in wanted if inspect.ismodule(getattr(multiprocessing, name))}
    assert {name for name in wanted if not hasattr(mp, name)} == set()
    assert set(multiprocessing.__all__) <= set(mp.__all__)
    for name in MODULES:
        assert inspect.ismodule(import_module(f"manyhands.multiprocessing.{name}"))


def test_modules_are_there_that_the_standard_library_has_after_a_first_use() -> None:
    script = """
import sys
mp = __import__(sys.argv[1], fromlist="*")
mp.Value("i")
mp.Queue()
__import__(sys.argv[1] + ".managers")
print(*[one for one in sys.argv[2:] if not hasattr(mp, one)])
"""
    loaded = ("context", "heap", "managers", "process", "queues", "reduction", "shared_memory")
    for name in ("multiprocessing", "manyhands.multiprocessing"):
        command = [sys.executable, "-c", script, name, *loaded, "sharedctypes", "synchronize"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"


@pytest.mark.parametrize("name", MODULES)
def test_every_name_of_its_modules_is_there(name: str) -> None:
    ours = import_module(f"manyhands.multiprocessing.{name}")
    standard = import_module(f"multiprocessing.{name}")
    assert {one for one in names(standard) if not hasattr(ours, one)} == set()


def test_exceptions_are_the_same_classes() -> None:
    for name in ("ProcessError", "TimeoutError", "BufferTooShort", "AuthenticationError"):
        assert getattr(mp, name) is getattr(multiprocessing, name)
    for module in MODULES:
        ours = import_module(f"manyhands.multiprocessing.{module}")
        standard = import_module(f"multiprocessing.{module}")
        for name, value in vars(standard).items():
            if isinstance(value, type) and issubclass(value, BaseException):
                assert getattr(ours, name) is value


def test_what_can_be_called_can_be_called_alike() -> None:
    context = mp.get_context()
    for name in sorted(set(multiprocessing.__all__)):
        standard = getattr(multiprocessing, name)
        if not callable(standard) or (
            isinstance(standard, type) and issubclass(standard, Exception)
        ):
            continue
        for ours in (getattr(mp, name), getattr(context, name)):
            # As one parameter after the other, and as one name after the other.
            wanted = list(inspect.signature(standard).parameters.values())
            have = inspect.signature(ours).parameters
            if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in have.values()):
                continue
            given = list(have.values())[: len(wanted)]
            assert [one.name for one in given] == [one.name for one in wanted], name
            assert all(
                theirs.kind == one.kind for theirs, one in zip(wanted, given, strict=True)
            ), name


def test_classes_are_subclasses() -> None:
    from multiprocessing import connection, managers, process

    assert issubclass(mp.Process, process.BaseProcess)
    assert issubclass(mp.connection.Connection, connection.Connection)
    assert issubclass(mp.managers.BaseManager, managers.BaseManager)
    assert issubclass(mp.managers.SyncManager, managers.SyncManager)
    assert mp.managers.BaseProxy is managers.BaseProxy
    assert mp.connection.wait is connection.wait
    assert "zmq" not in vars(sys.modules[mp.__name__])
