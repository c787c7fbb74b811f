"""Calls of functions as tasks: each function with its options is one open job."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from manyhands import arguments, functions
from manyhands.functions import Fingerprint
from manyhands.futures import FutureSink, RemoteFuture
from manyhands.loop import SessionLoop
from manyhands_shared import plain, serial
from manyhands_shared.callable import MapChunk, Setup, StarmapChunk
from manyhands_shared.errors import ConfigError
from manyhands_shared.messages import Function
from manyhands_shared.options import JobOptions

#: Functions whose pickles are kept, and jobs that are kept open, each the last used.
_KNOWN_FUNCTIONS = 1_000
#: How safe jobs say what wraps a function.
_HOW: dict[Any, str] = {None: plain.CALL, MapChunk: plain.MAP, StarmapChunk: plain.STARMAP}


class _Known:
    """A function whose pickle is at hand."""

    __slots__ = ("fingerprint", "function", "sink")

    def __init__(self, function: Any, fingerprint: Fingerprint | None, sink: FutureSink) -> None:
        self.function = function  # held, so that its id stays its own
        self.fingerprint = fingerprint
        self.sink = sink


class Calls:
    """Turns calls into tasks of the right jobs.

    Args:
        loop: the session.
        options: of every job.
        initializer: called in each pool child before its first task of these jobs.
        initargs: its arguments.
    """

    def __init__(
        self,
        loop: SessionLoop,
        options: JobOptions,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        block: bool = True,
    ) -> None:
        self._loop = loop
        self._put = loop.intake.put
        if options.safe and initializer is not None:
            raise ConfigError("a safe job has no initializer: it would travel as a pickle")
        self._pack_arguments = arguments.packer(options, loop.store, block=block)
        self._options = options
        self._initializer = initializer
        self._initargs = initargs
        self._block = block
        self._setup_key = secrets.token_bytes(16)
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._sinks: OrderedDict[bytes, FutureSink] = OrderedDict()
        self._lock = threading.Lock()

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> RemoteFuture:
        """One call as one task.

        Raises:
            SubmitError: the function or an argument cannot be sent.
            SubmitQueueFull: too many tasks wait, and this does not.
        """
        known = self._known.get(id(function))
        if known is None or (known.fingerprint is not None and not known.fingerprint.holds()):
            sink = self._learn(function)
        else:
            sink = known.sink
        future = RemoteFuture(sink)
        self._put(sink.job, future, self._pack_arguments(args, kwargs), block=self._block)
        return future

    def submitter(
        self, function: Callable[..., Any], wrapper: Any = None
    ) -> Callable[[tuple[Any, ...]], RemoteFuture]:
        """For many calls of one function, inside `wrapper`: it is pickled now and not looked at again.

        Raises:
            SubmitError: the function cannot be sent.
        """
        sink = self._learn(function, wrapper)
        pack = self._pack_arguments

        def submit(args: tuple[Any, ...]) -> RemoteFuture:
            future = RemoteFuture(sink)
            self._put(sink.job, future, pack(args, {}), block=self._block)
            return future

        return submit

    def pack(self, function: Callable[..., Any], wrapper: Any = None) -> Function:
        """The function as it travels, inside `wrapper` and with the initializer if there is one."""
        if self._options.safe:
            return functions.pack_plain(function, _HOW[wrapper])
        value = function if wrapper is None else wrapper(function)
        if self._initializer is not None:
            # One pickle for both, so that globals set by an initializer of `__main__` are the very
            # globals that the function reads; such an initializer is run for each function anew.
            key = self._setup_key
            if not functions.importable(self._initializer):
                whole = serial.dumps_by_value((value, self._initializer, self._initargs))
                key = hashlib.blake2b(whole, key=key, digest_size=16).digest()
            value = Setup(value, self._initializer, self._initargs, key)
        return functions.pack(function, None if value is function else value)

    def job_options(self, function: Callable[..., Any]) -> dict[str, Any]:
        """The options of a job of this function, as they travel."""
        named = self._options.name or functions.describe(function)
        parts = [function] if self._initializer is None else [function, self._initializer]
        demands = functions.demands(*parts, safe=self._options.safe)
        return {**self._options.to_map(), **demands, "name": named}

    def close(self) -> None:
        """No more calls: the jobs end with their last task."""
        with self._lock:
            for sink in self._sinks.values():
                self._loop.close_job(sink.job)
            self._sinks.clear()
            self._known.clear()

    def cancel(self) -> None:
        """Cancel every call that has not ended."""
        with self._lock:
            for sink in self._sinks.values():
                self._loop.cancel(sink.job)
            self._sinks.clear()
            self._known.clear()

    def _learn(self, function: Callable[..., Any], wrapper: Any = None) -> FutureSink:
        """Pickle the function; find or open the job of what came out."""
        fingerprint = functions.watch(function)
        packed = self.pack(function, wrapper)
        with self._lock:
            sink = self._sinks.get(packed.digest)
            if sink is None:
                sink = FutureSink(self._loop, packed, self.job_options(function))
                self._loop.open_job(sink.job)
                self._sinks[packed.digest] = sink
            self._sinks.move_to_end(packed.digest)
            if wrapper is None and functions.cacheable(function):
                self._known[id(function)] = _Known(function, fingerprint, sink)
            if len(self._known) > _KNOWN_FUNCTIONS:
                self._known.popitem(last=False)
            if len(self._sinks) > _KNOWN_FUNCTIONS:
                _, idle = self._sinks.popitem(last=False)
                self._loop.close_job(idle.job)
                for key in [key for key, known in self._known.items() if known.sink is idle]:
                    del self._known[key]
        return sink


class CallsFamily:
    """The `Calls` of one executor, one for each set of options that was used."""

    def __init__(self, make: Callable[[JobOptions], Calls]) -> None:
        self._make = make
        self._members: dict[str, Calls] = {}
        self._lock = threading.Lock()

    def of(self, options: JobOptions) -> Calls:
        """Those with these options."""
        key = repr(
            options
        )  # which every option is in, and which a mapping among them does not keep
        with self._lock:
            calls = self._members.get(key)
            if calls is None:
                calls = self._members[key] = self._make(options)
            return calls

    def close(self) -> None:
        """No more calls."""
        for calls in list(self._members.values()):
            calls.close()

    def cancel(self) -> None:
        """Cancel every call that has not ended."""
        for calls in list(self._members.values()):
            calls.cancel()
