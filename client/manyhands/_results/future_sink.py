"""The futures of one job, as the I/O thread resolves them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from manyhands._io.open_job import OpenJob
from manyhands._results.futures import ENDED, RemoteFuture, resolve
from manyhands._results.open_spans import OpenSpans
from manyhands._results.outcome import load
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.failure import INITIALIZER_FAILED, Failure
from manyhands_shared.protocol.status import Status

if TYPE_CHECKING:
    from manyhands._io.io_thread import IOThread
    from manyhands._values.store import Store
    from manyhands_shared.protocol.messages import Function


class FutureSink:
    """Resolves the futures of one job."""

    def __init__(
        self,
        io: IOThread,
        function: Function,
        options: dict[str, Any],
        failed_initializer: Callable[[BaseException], None] | None = None,
        adopt: Callable[[FutureSink], None] | None = None,
    ) -> None:
        """Begin a job.

        Args:
            io: the session's thread.
            function: of the job.
            options: of the job.
            failed_initializer: is told of an initializer that has failed.
            adopt: is told, on the I/O thread, of a job that goes on with calls of this one.
        """
        self._io = io
        self._adopt = adopt
        self._failed_initializer = failed_initializer
        self._error: BaseException | None = None
        self._futures: dict[int, RemoteFuture] = {}
        #: Futures whose results other tasks need, and nothing here has asked for yet.
        self._inputs: dict[int, weakref.ref[RemoteFuture]] = {}
        self._doomed: list[RemoteFuture] = []
        self.job = OpenJob(function, options, self)
        #: Whether results are msgpack, and no pickle is to be loaded.
        self.safe = bool(options.get("safe"))
        self._keeps = bool(options.get("keep"))
        self._spans = OpenSpans(self.job.id) if options.get("trace") else None
        if self._spans is not None:
            self.job.on_stay = self._spans.stays
        #: Whether the job was closed, so that the next call opens another.
        self.retired = False

    def cancel(self, future: RemoteFuture) -> None:
        """Tell the broker that this task is not wanted any more."""
        self._doomed.append(future)
        self._io.call(self._io.registry.cancel, self.job, self._find_doomed)

    def check_may_wait(self) -> None:
        """The thread that brings results cannot wait for one."""
        if self._io.on_thread():
            raise RuntimeError("a callback cannot wait for another task; wait in another thread")

    def spin(self, future: RemoteFuture, timeout: float | None) -> None:
        """Perhaps wait for a future without going to sleep; it may not have ended then."""
        self._io.spin(self, future, timeout)

    def future(self, index: int) -> RemoteFuture | None:
        """The future of a task that has not ended, if the I/O thread knows it."""
        return self._futures.get(index)

    def keeps_in(self, store: Store) -> bool:
        """Whether it is of the session that keeps its values there."""
        return self._io.store is store

    def stay(self, index: int, future: RemoteFuture) -> None:
        """Let a result stay with its node until its future is asked for it. On the I/O thread."""
        registry = self._io.registry
        if future._complete:
            registry.ask_result(self.job, index)
        elif self._futures.pop(index, None) is not None:
            drop = partial(self._io.call, registry.drop_result, self.job, index)
            self._inputs[index] = weakref.ref(future, lambda _: drop())

    def ask(self, future: RemoteFuture) -> None:
        """Have such a result come."""
        self._io.call(self._bring, future)

    def _bring(self, future: RemoteFuture) -> None:
        index = future._index
        if index is not None and self._inputs.pop(index, None) is not None:
            self._futures[index] = future
        if index is not None:
            self._io.registry.ask_result(self.job, index)

    def _unended(self) -> dict[int, RemoteFuture]:
        """The futures that are there, of tasks that have not ended."""
        inputs = ((index, ref()) for index, ref in self._inputs.items())
        there = {index: future for index, future in inputs if future is not None}
        return {**self._futures, **there}

    def accept(self, first: int, entries: Sequence[RemoteFuture], /) -> None:
        """See `Sink`."""
        self._futures.update(zip(range(first, first + len(entries)), entries, strict=True))
        for index, future in enumerate(entries, first):
            future._index = index
        if self._spans is not None:
            self._spans.begun(first, [future._span for future in entries])
        if self._keeps:
            for index, future in enumerate(entries, first):
                future._become_input()
                self.stay(index, future)

    def reject(self, entries: Sequence[RemoteFuture], payloads: Sequence[Payload], /) -> None:
        """See `Sink`. A job may have been closed for want of use just as it was used again."""
        error = self._io.queue.error or self._error
        if self._spans is not None and (error is not None or self.job.cancelled):
            status = Status.CANCELLED if error is None else Status.LOST
            self._spans.refused([future._span for future in entries], status)
        if error is not None:
            for future in entries:
                future._end_by(future._fail, error)
        elif self.job.cancelled:
            for future in entries:
                future._end_by(future._settle, Status.CANCELLED, b"")
        else:
            self._pass_on(entries, payloads)

    def _pass_on(self, entries: Sequence[RemoteFuture], payloads: Sequence[Payload]) -> None:
        """Have tasks run as those of another job, which gets no others."""
        heir = FutureSink(
            self._io, self.job.function, self.job.options, self._failed_initializer, self._adopt
        )
        heir.retired = True
        self._io.call(self._io.registry.open, heir.job)
        for future, payload in zip(entries, payloads, strict=True):
            future._sink = heir
            self._io.queue.put(heir.job, future, payload)
            if future in self._doomed:
                # It was cancelled here, where it never came to be.
                heir.cancel(future)
        self._io.call(self._io.registry.close, heir.job)
        if self._adopt is not None:
            self._adopt(heir)

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """See `Sink`."""
        if self._error is not None:
            return  # they have ended with it
        if self._failed_initializer is not None and any(statuses):
            error = _initializer_error(statuses, bodies)
            if error is not None:
                self._failed_initializer(error)
        if self._inputs:
            there = self._unended()
            places = [place for place, index in enumerate(indices) if index in there]
            for index in indices:
                self._futures.pop(index, None)
                self._inputs.pop(index, None)
            futures = [there[indices[place]] for place in places]
            resolve(futures, bytes(statuses[p] for p in places), [bodies[p] for p in places])
        else:
            resolve(list(map(self._futures.pop, indices)), statuses, bodies)
        if self._spans is not None:
            self._spans.ended(indices, statuses)

    def fail(self, error: BaseException) -> None:
        """See `Sink`."""
        futures, self._futures, self._inputs = self._unended(), {}, {}
        for future in futures.values():
            if self._error is not None:
                future._end_by(future._fail, self._error)
            elif self.job.cancelled:
                future._end_by(future._settle, Status.CANCELLED, b"")
            else:
                future._end_by(future._fail, error)
        if self._spans is not None:
            self._spans.over(Status.CANCELLED if self.job.cancelled else Status.LOST)

    def end(self, error: BaseException) -> None:
        """End all tasks that have not ended with an error; on the I/O thread."""
        self._error = error
        # First: a cancellation would end those that the broker has not got.
        self.fail(error)
        self._io.registry.cancel(self.job)

    @property
    def waits(self) -> bool:
        """See `Sink`."""
        return not self.job.cancelled and any(
            future._state not in ENDED for future in self._unended().values()
        )

    def orphan(self, error: BaseException, entries: Sequence[RemoteFuture], /) -> None:
        """See `Sink`."""
        for future in (*self._unended().values(), *entries):
            future._orphan(error)

    def _find_doomed(self) -> list[int]:
        doomed, self._doomed = set(self._doomed), []  # whatever was cancelled until now, in one go
        if not doomed:
            return []
        there = self._unended() if self._inputs else self._futures
        found = [index for index, future in there.items() if future in doomed]
        for index in found:
            future = there[index]
            future._end_by(future._settle, Status.CANCELLED, b"")
        return found


def _initializer_error(statuses: bytes, bodies: list[Payload]) -> BaseException | None:
    """Return what to raise for an initializer that has failed in one of these tasks."""
    for status, body in zip(statuses, bodies, strict=True):
        if status == Status.RAISED and Failure.decode(body).type == INITIALIZER_FAILED:
            return load(status, body)[1]
    return None
