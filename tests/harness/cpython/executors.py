"""CPython's own tests of `concurrent.futures`, with `manyhands.Executor` as their process pool.

A script: the names of test modules are its arguments. The interpreter's `test` package has them, from
Python 3.12 on. They run on the cluster at ``$MANYHANDS_BROKER``.
"""

from __future__ import annotations

import importlib
import os
import sys
import unittest
from concurrent import futures
from multiprocessing import get_context
from typing import Any

import manyhands
import manyhands.multiprocessing

#: What cannot pass, and why.
EXCEPTIONS = {
    "test_cancel_futures": "`shutdown(cancel_futures=True)` stops running tasks too",
    "test_error_at_task_unpickle": "the task fails with what loading has raised; its child lives on",
    "test_exit_at_task_unpickle": "the same, with SystemExit",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces a thread of the module's own",
    "test_idle_process_reuse_one": "the slots are the cluster's: none starts on demand",
    "test_killed_child": "the children are the node's, and their tasks run again",
    "test_python_finalization_error": "replaces the second thread that the module's own pool starts",
}


class _Child:
    """Stand for what only the module's own pool has."""

    def join(self) -> None:
        """Return at once."""

    join_thread = join


class _Executor(manyhands.Executor):
    """With the private attributes that the tests look at."""

    _call_queue = _Child()

    @property
    def _executor_manager_thread(self) -> Any:
        return self._connection.io

    @property
    def _processes(self) -> Any:
        return {number: _Child() for number in range(self._max_workers)}


# The name that scripts of the tests import.
_Executor.__name__ = "Executor"


class _Context:
    """A context whose locks and queues travel in tasks."""

    def __getattr__(self, name: str) -> Any:
        return getattr(manyhands.multiprocessing, name)

    def get_start_method(self, *, allow_none: bool = False) -> str:
        return "spawn"

    def Manager(self) -> Any:  # noqa: N802 - its name there
        return get_context("spawn").Manager()


def main(modules: list[str]) -> int:
    """Run the tests of these modules; return an exit code."""
    util: Any = importlib.import_module("test.test_concurrent_futures.util")
    kinds: list[type[unittest.TestCase]] = []
    ours = {
        "executor_type": _Executor,
        "ctx": "spawn",
        "worker_count": 3,
        "get_context": lambda _: _Context(),
    }

    def create(space: dict[str, Any], mixin: type, bases: Any = None, **_: Any) -> None:
        parents = (mixin, *(bases or (util.BaseTestCase,)))
        if not issubclass(mixin, util.ExecutorMixin):
            parents = (mixin, util.ExecutorMixin, *parents[1:])
        names = {**ours, "__module__": space["__name__"]}
        kinds.append(type(mixin.__name__, parents, names))

    util.create_executor_tests = create
    for name in modules:
        module: Any = importlib.import_module(f"test.test_concurrent_futures.{name}")
        if hasattr(module, "assert_python_ok"):
            module.assert_python_ok = _scripts(module.assert_python_ok)
    theirs: Any = futures
    theirs.ProcessPoolExecutor = _Executor
    loader = unittest.defaultTestLoader
    tests: list[Any] = [test for kind in kinds for test in loader.loadTestsFromTestCase(kind)]
    suite = unittest.TestSuite(
        test for test in tests if test.id().rpartition(".")[2] not in EXCEPTIONS
    )
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return not (result.wasSuccessful() and result.testsRun)


def _scripts(run: Any) -> Any:
    """Have scripts of the tests import our executor."""

    def run_ours(flag: str, text: str) -> Any:
        text = text.replace("concurrent.futures import Executor", "manyhands import Executor")
        text = text.replace("if 'spawn': multiprocessing", "if 0: multiprocessing")
        return run(flag, text, PYTHONPATH=os.pathsep.join(sys.path), __isolated=False)

    return run_ours


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
