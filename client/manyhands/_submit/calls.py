"""Calls of functions as tasks: each function with its options is one open job."""

from __future__ import annotations

import hashlib
import secrets
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from manyhands._code.surroundings import AskedOptions, code_of
from manyhands._io.io_thread import IOThread
from manyhands._results.future_sink import FutureSink
from manyhands._results.futures import FailedInput, RemoteFuture
from manyhands._results.open_spans import end_span
from manyhands._submit import arguments, functions, tracing
from manyhands._submit.fingerprint import Fingerprint, importable
from manyhands._submit.lru import Recent
from manyhands_shared.errors import ConfigError, SubmitError
from manyhands_shared.payloads import pickled, safe
from manyhands_shared.payloads.wrappers import MapChunk, Setup, StarmapChunk
from manyhands_shared.protocol.messages import Function, Status

#: Functions whose pickles are kept, with all that these hold, and jobs that are kept open.
_KNOWN_FUNCTIONS = 1_000
_OPEN_JOBS = 256
_MAX_BYTES = 32 << 20
#: With it come managers, whose proxies want multiprocessing's key of this program.
_MANAGERS = "multiprocessing.managers"
#: How safe jobs say what wraps a function.
_HOW: dict[Any, str] = {None: safe.CALL, MapChunk: safe.MAP, StarmapChunk: safe.STARMAP}


class _Known:
    """A function whose pickle is at hand."""

    __slots__ = ("code", "fingerprint", "function", "has_key", "sink")

    def __init__(
        self,
        function: Any,
        fingerprint: Fingerprint | None,
        sink: FutureSink,
        code: Function | None,
    ) -> None:
        self.function = function  # held, so that its id stays its own
        self.fingerprint = fingerprint
        self.sink = sink
        #: The bundle as it was asked for: that of the job is as good, and may have been made earlier.
        self.code = code
        #: Multiprocessing's key is in the pickle: the program had begun to use managers.
        self.has_key = _MANAGERS in sys.modules


class OpenCalls:
    """The jobs that calls are tasks of. Those used longest ago are closed when there are many."""

    def __init__(self, io: IOThread) -> None:
        self._io = io
        self._sinks: Recent[tuple[str, bytes, bytes], FutureSink] = Recent(_OPEN_JOBS, _MAX_BYTES)
        # Jobs that get no more calls. They live as long as their tasks, which can still be cancelled.
        self._closed: weakref.WeakSet[FutureSink] = weakref.WeakSet()
        # Those that go on with calls which came when their job was closed. The I/O thread makes them,
        # and must not wait for the lock.
        self._heirs: list[weakref.ref[FutureSink]] = []
        #: What becomes of all calls, once that is decided.
        self._end: Callable[[FutureSink], None] | None = None
        self._lock = threading.RLock()
        #: Stands for the initializer of these jobs.
        self.setup_key = secrets.token_bytes(16)
        #: Called when it fails, in the thread that brings the result. `None`: only its task fails.
        self.failed_initializer: Callable[[BaseException], None] | None = None

    def sink(
        self,
        kind: str,
        function: Function,
        code: Function | None,
        options: Callable[[Function | None], dict[str, Any]],
    ) -> FutureSink:
        """The open job of a function with a bundle; `kind` stands for its other options."""
        key = kind, function.digest, b"" if code is None else code.digest
        with self._lock:
            sink = self._sinks.use(key)
            if sink is None:
                sink = self._make(function, options(code))
                self._io.call(self._io.registry.open, sink.job)
                for idle in self._sinks.put(key, sink, functions.weight(function)):
                    self._close(idle)
        return sink

    def close(self) -> None:
        """No more calls: the jobs end with their last task."""
        with self._lock:
            for sink in self._sinks.clear():
                self._close(sink)

    def cancel(self) -> None:
        """Cancel every call that has not ended."""
        self._end_all(lambda sink: self._io.call(self._io.registry.cancel, sink.job))

    def fail(self, error: BaseException) -> None:
        """End every call that has not ended with an error."""
        self._end_all(lambda sink: self._io.call(sink.end, error))

    def _end_all(self, end: Callable[[FutureSink], None]) -> None:
        """Call `end` for all jobs, those that are closed too; none of them gets a call any more."""
        self._end = end  # first: an heir that is made now is ended here, there, or twice
        with self._lock:
            self._closed.update(self._sinks.clear())
            sinks = list(self._closed)
        heirs = [ref() for ref in list(self._heirs)]
        for sink in (*sinks, *filter(None, heirs)):
            sink.retired = True
            end(sink)

    def _make(self, function: Function, options: dict[str, Any]) -> FutureSink:
        return FutureSink(self._io, function, options, self.failed_initializer, self._adopt)

    def _adopt(self, heir: FutureSink) -> None:
        """Take note of a job that goes on with calls of another. On the I/O thread."""
        self._heirs = [*(ref for ref in self._heirs if ref() is not None), weakref.ref(heir)]
        if self._end is not None:
            self._end(heir)

    def _close(self, sink: FutureSink) -> None:
        sink.retired = True
        self._closed.add(sink)
        self._io.call(self._io.registry.close, sink.job)


class Calls:
    """Turns calls into tasks of the right jobs.

    Args:
        io: the session's thread.
        options: of every job.
        initializer: called in each pool child before its first task of these jobs.
        initargs: its arguments.
        block: whether a call waits for room.
        opened: where the jobs are kept; else in a place of their own.
    """

    def __init__(
        self,
        io: IOThread,
        options: AskedOptions,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        block: bool = True,
        opened: OpenCalls | None = None,
    ) -> None:
        self._put = io.queue.put
        if options.safe and initializer is not None:
            raise ConfigError("a safe job has no initializer: it would travel as a pickle")
        self._store = None if options.durable else io.store
        self._pack_arguments = arguments.packer(options, io.store, block=block)
        self._options = options
        # Every option is in it, and what a mapping among them held when it was given.
        self._kind = repr(options)
        self._initializer = initializer
        self._initargs = initargs
        self._block = block
        self._opened = opened or OpenCalls(io)
        self._known: Recent[int, _Known] = Recent(_KNOWN_FUNCTIONS, _MAX_BYTES)
        self._find = self._known.values.get
        code = _NoCode() if options.safe else code_of(options.wanted)
        # A lone call asks for it as it was a moment ago. What is pickled anew may be of a module that
        # was loaded again since then.
        self._code: Callable[[], Function | None] = code.current
        self._code_now: Callable[[], Function | None] = code.renew
        self._lock = threading.RLock()

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> RemoteFuture:
        """One call as one task.

        Raises:
            SubmitError: the function or an argument cannot be sent.
            SubmitQueueFull: too many tasks wait, and this does not.
        """
        # To look is quicker than to call, and few programs use it.
        if tracing.API in sys.modules and tracing.is_on():
            spans = self.spans(function)
            if spans is not None:
                return self._submit_traced(spans, function, args, kwargs)
        known = self._find(id(function))
        if (
            known is None
            or known.sink.retired
            or (known.fingerprint is not None and not known.fingerprint.holds())
            or known.code is not self._code()
            or (not known.has_key and _MANAGERS in sys.modules)
        ):
            sink = self._learn(function, known)
        else:
            sink = known.sink
        try:
            payload = self._pack_arguments(args, kwargs)
        except FailedInput as failed:
            return failed.future()
        future = RemoteFuture(sink)
        self._put(sink.job, future, payload, block=self._block)
        return future

    def submitter(
        self, function: Callable[..., Any], wrapper: Any = None
    ) -> Callable[[tuple[Any, ...]], RemoteFuture]:
        """For many calls of one function, inside `wrapper`: it is pickled now and not looked at again.

        The future of a call whose arguments cannot be sent fails.

        Raises:
            SubmitError: the function cannot be sent.
        """
        spans = self.spans(function)
        if spans is not None:
            packed = self.pack(function, spans.wrapper(wrapper))
            traced = self._open(function, packed, traced=True)

            def submit_traced(args: tuple[Any, ...]) -> RemoteFuture:
                try:
                    return self._put_traced(spans, traced, args, {})
                except SubmitError as error:
                    return RemoteFuture.failed(error)

            return submit_traced
        sink = self._open(function, self.pack(function, wrapper))
        pack = self._pack_arguments

        def submit(args: tuple[Any, ...]) -> RemoteFuture:
            future = RemoteFuture(sink)
            try:
                self._put(sink.job, future, pack(args, {}), block=self._block)
            except FailedInput as failed:
                return failed.future()
            except SubmitError as error:
                return RemoteFuture.failed(error)
            return future

        return submit

    def spans(self, function: Callable[..., Any]) -> tracing.Spans | None:
        """What makes the spans of calls of a function, if they are to have any."""
        return tracing.spans(functions.describe(function), self._options)

    def _submit_traced(
        self,
        spans: tracing.Spans,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> RemoteFuture:
        """As `submit`, with a span."""
        packed = self.pack(function, spans.wrapper(None))
        return self._put_traced(spans, self._open(function, packed, traced=True), args, kwargs)

    def _put_traced(
        self,
        spans: tracing.Spans,
        sink: FutureSink,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> RemoteFuture:
        """Begin a task's span, and submit the task.

        Raises:
            SubmitError: an argument cannot be sent.
            SubmitQueueFull: too many tasks wait, and this does not.
        """
        span, context = spans.begin()
        future = RemoteFuture(sink)
        future._span = span
        try:
            payload = self._pack_arguments((context, *args), kwargs)
            self._put(sink.job, future, payload, block=self._block)
        except FailedInput as failed:
            future = failed.future()
            cancelled = future.cancelled()
            end_span(span, "", None, Status.CANCELLED if cancelled else Status.RAISED)
        except BaseException as error:
            spans.give_up(span, error)
            raise
        return future

    def pack(self, function: Callable[..., Any], wrapper: Any = None) -> Function:
        """The function as it travels, inside `wrapper` and with the initializer if there is one."""
        if self._options.safe:
            return functions.pack_safe(function, _HOW[wrapper])
        value = function if wrapper is None else wrapper(function)
        if self._initializer is not None:
            # One pickle for both: the globals that an initializer of `__main__` sets are then the very
            # globals that the function reads. Such an initializer is run for each function anew.
            key = self._opened.setup_key
            if not importable(self._initializer):
                state = hashlib.blake2b(key=key, digest_size=16)
                whole = (value, self._initializer, self._initargs)
                payload = pickled.dumps_by_value(whole, pickled.INLINE_BYTES)
                for part in payload if isinstance(payload, tuple) else (payload,):
                    state.update(part)
                key = state.digest()
            value = Setup(value, self._initializer, self._initargs, key)
        value = None if value is function else value
        return functions.pack(function, value, self._store, block=self._block)

    def job_options(self, function: Callable[..., Any], *, traced: bool = False) -> dict[str, Any]:
        """The options of a job of this function, as `OpenJob` takes them.

        To be asked for when the function is pickled, which may import modules of the program.

        Raises:
            SubmitError: the program's modules cannot be sent.
        """
        return self._job_options(function, self._code_now(), traced=traced)

    def _job_options(
        self, function: Callable[..., Any], code: Function | None, *, traced: bool
    ) -> dict[str, Any]:
        named = self._options.name or functions.describe(function)
        parts = [function] if self._initializer is None else [function, self._initializer]
        demands = functions.demands(*parts, options=self._options)
        options = {**self._options.to_map(), **demands, "name": named}
        if traced:
            options["trace"] = True
        return options if code is None else {**options, "bundle": code}

    def close(self) -> None:
        """No more calls: the jobs end with their last task."""
        self._opened.close()
        self._known.clear()

    def _open(
        self, function: Callable[..., Any], packed: Function, *, traced: bool = False
    ) -> FutureSink:
        options = partial(self._job_options, function, traced=traced)
        return self._opened.sink(self._kind, packed, self._code_now(), options)

    def _learn(self, function: Callable[..., Any], known: _Known | None) -> FutureSink:
        """Pickle the function; find or open the job of what came out."""
        fingerprint = None if known is None else known.fingerprint
        if fingerprint is None or not fingerprint.blind:
            fingerprint = functions.fingerprint(function)
        packed = self.pack(function)
        code = self._code_now()
        options = partial(self._job_options, function, traced=False)
        sink = self._opened.sink(self._kind, packed, code, options)
        if functions.cacheable(function):
            with self._lock:
                known = _Known(function, fingerprint, sink, code)
                self._known.put(id(function), known, functions.weight(packed))
        return sink


class _NoCode:
    """Safe jobs bring no code."""

    def current(self) -> None:
        """Return none."""

    renew = current


class CallsByOptions:
    """The `Calls` of one executor, one for each set of options that is in use."""

    def __init__(self, io: IOThread, make: Callable[[AskedOptions, OpenCalls], Calls]) -> None:
        self._make = make
        self._opened = OpenCalls(io)
        self._calls: weakref.WeakValueDictionary[str, Calls] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()

    def of(self, options: AskedOptions) -> Calls:
        """Those with these options."""
        key = repr(options)
        with self._lock:
            calls = self._calls.get(key)
            if calls is None:
                calls = self._calls[key] = self._make(options, self._opened)
            return calls

    def close(self) -> None:
        """No more calls."""
        self._opened.close()

    def cancel(self) -> None:
        """Cancel every call that has not ended."""
        self._opened.cancel()

    def break_with(self, broken: Callable[[BaseException], None]) -> None:
        """Have a failed initializer end all calls. `broken` hears of it first."""

        def failed(error: BaseException) -> None:
            broken(error)
            self._opened.fail(error)

        self._opened.failed_initializer = failed
