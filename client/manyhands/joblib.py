"""A backend for joblib: ``import manyhands.joblib``, then ``parallel_config(backend="manyhands")``.

The nodes need joblib too. Large arrays among the arguments go to each node once.
"""

from __future__ import annotations

import operator
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from manyhands.executor import Executor

#: Executors that no call of `Parallel` uses, and that are kept for the next ones. Each has a session,
#: and without an address a cluster of its own.
_IDLE = 2

#: The one used last comes last.
_executors: OrderedDict[Any, Executor] = OrderedDict()
#: Calls of `Parallel` that use each of these.
_users: Counter[Executor] = Counter()
_lock = threading.Lock()


class ManyhandsBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc] # untyped
    """Run the batches of `joblib.Parallel` on a cluster.

    Args:
        address: the broker; else ``$MANYHANDS_BROKER``; else a cluster on this machine.
        key_file: your key; else ``$MANYHANDS_KEY_FILE``.
        nesting_level: how deep in other calls of `Parallel` this one is.
        options: what else joblib gives to a backend.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        *,
        address: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, **options)
        self._where = address, key_file
        self._futures: set[Future[Any]] = set()
        self._executor: Executor | None = None
        self._limit: int | None = None
        # Of this call alone, for it has an initializer.
        self._own: Executor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at once; for a negative number, as many as there are slots.

        Raises:
            ValueError: for 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        executor = _use(*self._where, None)
        try:
            return max(1, executor._max_workers + 1 + n_jobs)
        finally:
            _leave(executor)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        **options: Any,
    ) -> int:
        """Make ready for a call of `parallel`; see `effective_n_jobs`."""
        del prefer, require
        self.parallel = parallel
        count = self.effective_n_jobs(n_jobs)
        limit = self._limit = count if n_jobs > 0 else None
        # Some are given to joblib's context, the others to `Parallel`.
        given = {**self.backend_kwargs, **options}
        initializer, initargs = given.get("initializer"), given.get("initargs", ())
        self._let_go()
        if initializer is None:
            self._executor = _use(*self._where, limit)
        else:
            self._own = self._executor = _new(*self._where, limit, initializer, initargs)
        return count

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], None] | None = None
    ) -> Future[Any]:
        """Run a batch; `callback` gets the future when it has ended."""
        if self._executor is None:
            # Calls of `Parallel` within one context share this backend, and another one has ended.
            self._executor = _use(*self._where, self._limit)
        future = self._executor.submit(operator.call, func)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the result of a batch that has ended."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop the batches of this call; the cluster stays for the next one."""
        del ensure_ready
        for future in list(self._futures):
            future.cancel()

    def terminate(self) -> None:
        """Forget how long batches took. The executor stays for the next call, without an initializer."""
        self.reset_batch_stats()
        self._let_go()

    def _let_go(self) -> None:
        """Leave the executor of this call, if it has one."""
        executor, self._executor = self._executor, None
        own, self._own = self._own, None
        if own is not None:
            own.shutdown()
        elif executor is not None:
            _leave(executor)


def _use(
    address: str | None, key_file: str | os.PathLike[str] | None, limit: int | None
) -> Executor:
    """Return the executor for these, which stays until `_leave`, and for a while."""
    key = address or os.environ.get("MANYHANDS_BROKER"), str(key_file), limit, os.getpid()
    with _lock:
        if key not in _executors:
            _executors[key] = _new(address, key_file, limit)
        _executors.move_to_end(key)
        _users[_executors[key]] += 1
        return _executors[key]


def _leave(executor: Executor) -> None:
    """End a use of an executor. Of those that have no other, those used longest ago end."""
    with _lock:
        _users[executor] -= 1
        if _users[executor] <= 0:
            del _users[executor]
        here = os.getpid()
        idle = [key for key, one in _executors.items() if key[3] == here and one not in _users]
        gone = [_executors.pop(key) for key in idle[:-_IDLE]]
    for one in gone:
        one.shutdown(wait=False)


def _new(
    address: str | None,
    key_file: str | os.PathLike[str] | None,
    limit: int | None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Executor:
    return Executor(
        limit, None, initializer, initargs, address=address, key_file=key_file, name="joblib"
    )


def close() -> None:
    """End what calls of joblib have started; the next call starts anew."""
    with _lock:
        for executor in _executors.values():
            executor.shutdown(cancel_futures=True)
        _executors.clear()
        _users.clear()


register_parallel_backend("manyhands", ManyhandsBackend)
