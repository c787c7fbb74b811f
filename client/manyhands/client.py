"""`Client`: the session itself, for library authors and the command."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, Self

import msgpack

from manyhands import arguments, functions
from manyhands.connect import CONNECT_SECONDS, MAX_PENDING, Connection
from manyhands.executor import checked_options
from manyhands.loop import SessionLoop
from manyhands.open_job import OpenJob
from manyhands.pool_results import outcome
from manyhands_shared.config import DEFAULT_BIND
from manyhands_shared.errors import ClusterClosed, ConfigError
from manyhands_shared.serial import Payload

_QUERY_SECONDS = 30.0


class Client:
    """A session with a broker: submit array jobs, ask questions, cancel by id.

    Args:
        address: the broker, as ``tcp://host:port``; else ``$MANYHANDS_BROKER``; else this machine's.
        key_file: the cluster's key; else ``$MANYHANDS_KEY_FILE``.
        name: shown to people beside the session's jobs.
        limit: how many of its tasks run at once; 0 is no limit.
        max_pending: unfinished tasks in this process before `submit_job` waits.
        connect_timeout: seconds to wait for the broker.

    Raises:
        ConfigError: an option that cannot be used.
        BrokerUnreachable, NotAuthorised, Refused: the broker does not take us in.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        key_file: str | os.PathLike[str] | None = None,
        name: str = "",
        limit: int = 0,
        max_pending: int = MAX_PENDING,
        connect_timeout: float = CONNECT_SECONDS,
    ) -> None:
        self._connection = Connection(
            address,
            key_file,
            default=DEFAULT_BIND,
            name=name,
            limit=limit,
            max_pending=max_pending,
            connect_timeout=connect_timeout,
        )
        self._loop = self._connection.loop
        error = ClusterClosed("the client was closed")
        self._drop = weakref.finalize(self, self._connection.abort, error, wait=False)
        self._drop.atexit = False  # the connection sees to the interpreter's exit itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """The broker's address."""
        return self._loop.address

    def submit_job(
        self,
        function: Callable[..., Any],
        args_list: Iterable[tuple[Any, ...]],
        *,
        name: str = "",
        priority: int = 0,
    ) -> Job:
        """Submit one job with a task ``function(*args)`` for each `args` in `args_list`.

        Raises:
            ConfigError: a name or priority that cannot be used.
            SubmitError: the function or some arguments cannot be sent; the job is cancelled.
        """
        options = checked_options(name or functions.describe(function), priority)
        job = Job(self._loop)
        opened = OpenJob(functions.pack(function), options.to_map(), job)
        job.opened(opened)
        try:
            for args in args_list:
                self._loop.intake.put(opened, None, arguments.pack(tuple(args), {}))
                job.tasks += 1
        except BaseException:
            job.cancel()
            raise
        self._loop.close_job(opened)
        return job

    def query(self, what: str, **parameters: Any) -> Any:
        """Ask the broker: ``jobs``, ``job`` (with `id`), ``nodes``, ``stats``, ``events``.

        Returns:
            Plain values: lists, maps, texts, numbers.

        Raises:
            Refused: it cannot answer; the text says why.
            TimeoutError: no answer within half a minute.
        """
        try:
            msgpack.packb(parameters)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"a query takes plain values only: {error}") from None
        return self._loop.ask(what, parameters).result(_QUERY_SECONDS)

    def cancel(self, job_id: str) -> None:
        """Cancel a job of any session. Nothing happens if there is none by that id."""
        self._loop.cancel_other(job_id)

    def close(self) -> None:
        """End the session; jobs that have not ended are cancelled."""
        self._drop.detach()
        self._connection.abort(ClusterClosed("the client was closed"))


class Job:
    """An array job. Iterate over it for `(index, value or exception)` as tasks end, each once."""

    def __init__(self, loop: SessionLoop) -> None:
        #: How many tasks it has.
        self.tasks = 0
        self._loop = loop
        self._job: OpenJob
        self._changed = threading.Condition()
        self._arrived: deque[tuple[int, int, Payload]] = deque()
        self._ended = 0
        self._taken = 0
        self._error: BaseException | None = None

    @property
    def id(self) -> str:
        """What the job is called at the broker."""
        return self._job.id

    @property
    def ended(self) -> int:
        """How many of its tasks have ended."""
        return self._ended

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._arrived or self._is_over())
                if not self._arrived:
                    if self._error is not None and self._taken < self.tasks:
                        raise self._error
                    return
                index, status, body = self._arrived.popleft()
                self._taken += 1
            value, error = outcome(status, body)
            yield index, value if error is None else error

    def results(self) -> list[Any]:
        """Every task's value, in order. Takes the place of iterating.

        Raises:
            Exception: of the first task, by number, that failed.
        """
        values: dict[int, Any] = {}
        failures: dict[int, BaseException] = {}
        for index, value in self:
            (failures if isinstance(value, BaseException) else values)[index] = value
        if failures:
            raise failures[min(failures)]
        return [values[index] for index in sorted(values)]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every task has ended, `timeout` seconds at most; whether they have."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            left = None if deadline is None else deadline - time.monotonic()
            return self._changed.wait_for(self._is_over, left)

    def cancel(self) -> None:
        """Cancel what has not ended; it comes back as `CancelledError`."""
        self._loop.cancel(self._job)

    def opened(self, job: OpenJob) -> None:
        """Begin; for `Client`."""
        self._job = job
        self._loop.open_job(job)

    def accept(self, _first: int, _entries: Sequence[Any], /) -> None:
        """See `Sink`."""

    def reject(self, _entries: Sequence[Any], _payloads: Sequence[Payload], /) -> None:
        """See `Sink`."""
        self.fail(self._loop.intake.error or CancelledError("the job was cancelled"))

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """See `Sink`."""
        with self._changed:
            self._arrived.extend(zip(indices, statuses, bodies, strict=True))
            self._ended += len(indices)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """See `Sink`."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._error is not None or self._ended >= self.tasks
