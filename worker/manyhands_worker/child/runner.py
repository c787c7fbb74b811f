"""Running tasks in a pool child.

Whatever a task does, the next one must be fine. Everything of the user's (loading, calling, pickling,
the pickles themselves) runs behind one handler that turns what it raises into a failure. Results and
exceptions are proven to load here, before they leave.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from manyhands_shared import tracing
from manyhands_shared.coordination import pool_child
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads import pickled, refs
from manyhands_shared.payloads.by_value.class_resolution import World
from manyhands_shared.payloads.by_value.main_module import script
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.payloads.wrappers import Setup
from manyhands_shared.protocol.given_results import has_results
from manyhands_shared.protocol.status import Status
from manyhands_worker.child.allowed_functions import Patterns
from manyhands_worker.child.client_modules import ClientModules, NoSuchDirectory
from manyhands_worker.child.codec import (
    Codec,
    ForeignPickleCodec,
    Packed,
    PickleCodec,
    SafeCodec,
    too_large,
)
from manyhands_worker.child.failures import InitializerRaised, Told, failure_of
from manyhands_worker.child.forks import end_fork
from manyhands_worker.child.inputs.given_inputs import GivenInputs
from manyhands_worker.child.inputs.input_loader import InputLoader, ValueAway
from manyhands_worker.child.loaded_functions import (
    NOT_LOADED,
    Borrowing,
    Loaded,
    has_globals_here,
    has_state,
    inheriting,
)
from manyhands_worker.child.results.early_sender import EarlySender
from manyhands_worker.child.results.result_batch import INLINE_BYTES, ResultBatch
from manyhands_worker.child.reuse import Fitness, Unfit, may_be_the_process
from manyhands_worker.child.variables import present
from manyhands_worker.child_status import REVOKED
from manyhands_worker.function_cache import FunctionCache
from manyhands_worker.host.memory_groups import MemoryCap
from manyhands_worker.host.process_snapshot import Condition
from manyhands_worker.ipc.control_block import CLAIM, DONE, LIMIT, READY, STARTED
from manyhands_worker.ipc.output_redirect import OutputRedirect, flush_streams
from manyhands_worker.ipc.pipe import (
    APART,
    AT_ONCE,
    CAPTURE,
    DIRECT,
    EACH,
    FOREIGN,
    GROUPED,
    MARK,
    SAFE,
    TRACE,
    Reader,
    Writer,
    unpack,
)
from manyhands_worker.ipc.segments import SegmentWriter
from manyhands_worker.ipc.slab import SlabWriter

_PYTHON = ".".join(map(str, sys.version_info[:3]))
#: Of most batches: no variables, no limit of memory, no group to set it in.
_NO_GRANT: tuple[dict[str, str], int, str] = ({}, 0, "")


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What bounds a child. Sizes in bytes."""

    #: The largest single buffer of a result that can travel.
    frame_bytes: int
    #: Functions kept loaded (by the size of their payloads).
    function_bytes: int
    #: Threads that numeric libraries may use.
    threads: int
    #: What the segments of a child may take together (see `segments`).
    segment_bytes: int = 0
    #: Where stored values are to be had; empty: nowhere.
    lender: str = ""
    #: The functions of a safe node, which takes safe batches only; `None` for any.
    allowed: Patterns | None = None
    #: Descriptors that it may have; 0: as many as the node.
    descriptors: int = 0
    #: Where the host's agent listens; empty: there is none.
    agent: str = ""
    #: What is printed goes nowhere, unless it is captured.
    discard_output: bool = False
    #: The node's name.
    node: str = ""


class Runner:
    """The loop of one child: batches in, results out."""

    def __init__(
        self,
        sock: socket.socket,
        control: memoryview,
        slab: SlabWriter,
        segments: SegmentWriter,
        output: OutputRedirect,
        input_loader: InputLoader,
        limits: ChildLimits,
    ) -> None:
        self._socket = sock
        self._input_loader = input_loader
        self._recent = input_loader.recent
        input_loader.begun = lambda: self._calling
        # Whether code of a task runs just now, and whether this is a process that a task has forked.
        self._calling = False
        self._forked = False
        self._fitness = Fitness(Condition([sock.fileno(), *output.descriptors()], output.leads))
        self._told = False
        self._failed = 0
        self._reader = Reader(sock)
        self._writer = Writer(sock)
        self._control = control
        self._segments = segments
        self._output = output
        self._given = GivenInputs()
        self._limits = limits
        self._modules = ClientModules()
        self._functions: FunctionCache[Loaded] = FunctionCache(limits.function_bytes)
        self._borrowing = Borrowing(limits.function_bytes)
        self._codecs: dict[int, Codec] = {SAFE: SafeCodec(limits.allowed)}
        if limits.allowed is None:
            self._codecs[0] = PickleCodec()
            self._codecs[FOREIGN] = ForeignPickleCodec()
        # The keys of initializers that were called, and for which function.
        self._initialised: dict[bytes, bytes] = {}
        # Of the function whose tasks ran last.
        self._world: World | None = None
        self._results = ResultBatch(self._writer, slab, segments)
        self._early_sender = EarlySender(self._results, control)

    def interrupt(self, *_: object) -> None:
        """Handle SIGINT: interrupt the task that runs, as in a script; between tasks, do nothing.

        Raises:
            KeyboardInterrupt: a task runs.
        """
        if self._calling:
            raise KeyboardInterrupt

    def before_fork(self) -> None:
        """Prepare for a fork by a task; what it forks in turn has nothing to hand over."""
        if self._forked:
            return
        if threading.current_thread() is not threading.main_thread():
            self._early_sender.before_fork()
            return
        called, self._calling = self._calling, False  # an interrupt would tear a message
        self._early_sender.before_fork()
        self._calling = called

    def disown(self) -> None:
        """Note that this process was forked by a task: what it returns is not the task's result."""
        self._forked = True
        self._socket.close()

    def serve(self) -> None:
        """Run what comes until the node closes its end.

        Raises:
            OSError, PipeError: the pipe to the node is broken.
        """
        reader = self._reader
        self._control[READY] = 1
        while True:
            while not reader.ready:
                self._input_loader.wait(self._socket)
                if not reader.fill():
                    return
                if reader.partial is not None and self._control[CLAIM] != reader.partial[0]:
                    # Arguments that are still coming may be what ends this process.
                    self._control[STARTED] = time.monotonic_ns()
                    self._control[CLAIM] = reader.partial[0]
            self._run_next()

    def _run_next(self) -> None:
        """Run a batch that has come. Nothing of it is held by the time that the next is waited for."""
        header, buffers = self._reader.ready.popleft()
        first, digest, function, flags, bundle, grant, bodies = header[:7]
        brought: list[Payload] = []
        if function is None and bundle is None:  # as nearly always
            payloads = unpack(bodies, buffers)
        else:
            counts, entries = function or ([], [])
            _, _, packed = bundle or ("", b"", [])
            payloads = unpack([*entries, *packed, *bodies], buffers)
            code, brought = payloads[: len(entries)], payloads[len(entries) :][: len(packed)]
            del payloads[: len(entries) + len(packed)]
            if function is not None:
                self._functions.put(digest, Loaded(code, counts), total(code))
        loaded = self._functions.get(digest)  # counts as used, in the node's copy as well
        del bodies, buffers
        count = len(payloads)
        fitness = self._fitness
        if (leave := pool_child.leave_function) and (bundle or digest != fitness.last):
            pool_child.leave_function = None
            leave()
        if bundle is not None and (told := self._enter_modules(bundle[0], bundle[1], brought)):
            body = failure_of(told, __file__, pickled=False).encode()
            self._refuse(first, count, Status.RAISED, body)
            return
        variables, memory, group = grant or _NO_GRANT
        self._cap: MemoryCap | None = MemoryCap(group, memory) if group else None
        if not (fitness.has_room(memory, digest) and fitness.before(digest)):
            self._refuse(first, count)
            return
        self._output.turn(on=bool(flags & CAPTURE), apart=bool(flags & APART))
        if flags & MARK:
            self._output.begin(first)
        if flags & TRACE:
            claim = partial(self._control.__getitem__, CLAIM)
            tracing.tell(first, header[7], self._limits.node, pool_child.slot, claim)
        self._failed = 0
        payloads.reverse()
        if variables:
            with present(variables):
                self._run(first, digest, loaded, flags, payloads)
        else:
            self._run(first, digest, loaded, flags, payloads)
        self._segments.tidy()
        if (main := loaded.world.main).visitors:
            main.dismiss()
        fit = fitness.after(digest, count, self._failed, time.monotonic_ns())
        if not (fit or self._told):
            self._report(first, b"", [])

    def _enter_modules(self, place: str, digest: bytes, brought: list[Payload]) -> Told | None:
        """Run in a program's directory, with its modules, from now on; return why that cannot be."""
        fitness = self._fitness
        try:
            words = self._modules.enter(place, digest, brought[0] if brought else None)
        except (OSError, ProtocolError) as error:
            fitness.words = "needed modules or a directory that it cannot have"
            told = "the program's modules cannot be unpacked"
            if isinstance(error, NoSuchDirectory):
                told = f"the working directory {error.filename} cannot be used"
            return Told(f"{told} on {socket.gethostname()}", error)
        fitness.words = fitness.words or words
        return None

    def _refuse(self, first: int, count: int, status: int = REVOKED, body: bytes = b"") -> None:
        """Give tasks back that another child is to run, for this one is not fit for them."""
        self._control[DONE] = self._control[CLAIM]
        self._report(first, bytes([status]) * count, [body] * count)

    def _report(self, first: int, statuses: bytes, bodies: list[Any]) -> None:
        words = "" if self._told else self._fitness.words
        self._told = True
        self._writer.send([first, statuses, bodies, 0.0, words, [0, 0, 0]], [])

    def _run(
        self, first: int, digest: bytes, loaded: Loaded, flags: int, payloads: list[Payload]
    ) -> None:
        """Run the tasks that have these arguments, the last of the list first."""
        control = self._control
        each, at_once, direct = flags & EACH, bool(flags & AT_ONCE), bool(flags & DIRECT)
        grouped = bool(flags & GROUPED)
        # The node has refused what this one has no codec for: a safe node's children, all pickles.
        codec = self._codecs[SAFE if flags & SAFE else flags & FOREIGN]
        results, sender = self._results, self._early_sender
        if pool_child.sync_writes is not None:
            pool_child.sync_writes()
        now = time.monotonic_ns()
        with results.lock:
            results.begin(first, now)
        if len(payloads) > 1 and not at_once:
            sender.begin()
        for number in range(first, first + len(payloads)):
            if each:
                self._output.begin(number)
            control[STARTED] = now
            control[CLAIM] = number
            if number >= control[LIMIT]:
                # Everything behind it is above the limit too.
                self._give_up(number, len(payloads), b"")
                break
            try:
                status, result = self._execute(codec, digest, loaded, payloads.pop())
            except ValueAway as away:
                self._give_up(number, len(payloads) + 1, away.key + away.owner)
                break
            except Unfit:
                self._give_up(number, len(payloads) + 1, b"")
                break
            with results.lock:
                # A large result goes out under the claim of its task, for it may be what kills. So does
                # one that must not be lost, for its task will not run again.
                large = results.add(number, status, result, direct=direct) or at_once
                if each:
                    flush_streams()
                del result
                before, now = now, time.monotonic_ns()
                if not large:
                    control[DONE] = number
                if results.ran(before, now, grouped) or large:
                    results.send()
                control[DONE] = number
        with results.lock:
            if results:
                results.send()
        sender.finish()

    def _give_up(self, number: int, count: int, why: bytes) -> None:
        """Give back the last tasks of a batch: they are revoked, or the first waits for a value."""
        with self._results.lock:
            self._results.give_back(count, why)
            self._control[DONE] = number

    def _execute(self, codec: Codec, digest: bytes, loaded: Loaded, payload: Payload) -> Packed:
        """Run one task: its status, and its result or failure.

        Raises:
            ValueAway: it cannot begin yet.
            Unfit: another child is to run it.
        """
        recent = self._recent
        if recent.kept:
            recent.begin()
        try:
            world = loaded.world
            if world is not self._world:
                self._enter(world)
            function = loaded.value
            if function is NOT_LOADED:
                function = self._load(codec, digest, loaded)
            if type(function) is Setup or self._fitness.tied:
                function = self._set_up(digest, function)
            if self._cap is not None:
                function = partial(self._cap.call, function)
            if type(payload) is bytes and pickled.STACK_GLOBAL not in payload:
                args, kwargs = codec.arguments(payload)
            else:
                args, kwargs = self._arguments(codec, payload, world)
            if recent.before:
                recent.end()
            self._calling = True
            value = function(*args, **kwargs)
            self._calling = False
        except BaseException as error:
            called, self._calling = self._calling, False
            if self._forked:
                end_fork(error)
            if isinstance(error, Unfit) and not called:
                raise
            if (away := self._input_loader.away) is not None:
                self._input_loader.away = None
                raise away from None
            if (gone := self._given.gone) is not None:
                self._given.gone = None
                return Status.INPUT_GONE, gone.key
            self._failed += may_be_the_process(error)
            return Status.RAISED, failure_of(error, __file__, pickled=codec.pickles).encode()
        if self._forked:
            end_fork(None)
        return self._pack(codec, value)

    def _enter(self, world: World) -> None:
        """From now on, tasks of another function run."""
        if world.main is not script.main:
            script.enter(world.main)
        pickled.arrive_at(world.running)
        self._world = world

    def _arguments(self, codec: Codec, payload: Payload, world: World) -> Any:
        """Load arguments that may hold classes, or values that are stored elsewhere."""
        pickled.arrive_at(world.arguments)
        try:
            if type(payload) is tuple and has_results(payload):
                payload = self._given.take(payload, codec.value)
            arguments = codec.arguments(payload)
        finally:
            pickled.arrive_at(world.running)
            self._given.drop()
        # Code of the arguments' own may have hidden these.
        if self._input_loader.away is not None:
            raise self._input_loader.away
        if self._given.gone is not None:
            raise self._given.gone
        return arguments

    def _call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._calling = True
        try:
            return function(*args, **kwargs)
        finally:
            self._calling = False

    def _load(self, codec: Codec, digest: bytes, loaded: Loaded) -> Callable[..., Any] | Setup:
        pickled.arrive_at(loaded.world)
        try:
            return self._load_here(codec, digest, loaded)
        finally:
            pickled.arrive_at(loaded.world.running)

    def _load_here(self, codec: Codec, digest: bytes, loaded: Loaded) -> Callable[..., Any] | Setup:
        brought = refs.brought()
        try:
            with loaded.world.main.adding_only(loaded.renews):
                function: Callable[..., Any] | Setup = codec.function(loaded.payloads[0])
        except BaseException as error:  # noqa: BLE001 - as in `_execute`
            raise Told(
                f"the function does not load on {socket.gethostname()} under Python {_PYTHON}: install "
                "its modules there; a function sent by value needs the client's Python (major, minor)",
                error,
            ) from None
        if loaded.counts:
            function = inheriting(codec, function, loaded)
        if self._input_loader.away is not None:
            raise self._input_loader.away  # as in `_execute`
        if loaded.renews:
            return function
        if (
            isinstance(function, Setup)
            and self._initialised.get(function.key) == digest
            and has_globals_here(function.initializer)
        ):
            del self._initialised[function.key]  # what it had set went when this was unloaded
        if not loaded.counts and has_state(function):
            loaded.renews = True
            return function
        loaded.value = function
        self._borrowing.add(digest, loaded, refs.brought() - brought)
        return function

    def _set_up(self, digest: bytes, function: Callable[..., Any] | Setup) -> Callable[..., Any]:
        """Return what to call, once this process is as its initializer leaves it."""
        if self._fitness.tied:
            self._fitness.admit(function)
        if not isinstance(function, Setup):
            return function
        self._initialise(digest, function)
        return function.function

    def _initialise(self, digest: bytes, setup: Setup) -> None:
        if setup.key in self._initialised:
            return
        try:
            self._call(setup.initializer, setup.initargs, {})
        except BaseException as error:  # noqa: BLE001 - as in `_execute`
            if self._forked:
                end_fork(error)
            raise InitializerRaised(error) from None
        self._initialised[setup.key] = digest
        self._fitness.prepared(setup.key)

    def _pack(self, codec: Codec, value: Any) -> Packed:
        status, payload = codec.result(value)
        if type(payload) is bytes and len(payload) <= INLINE_BYTES:
            return status, payload
        largest = self._limits.frame_bytes
        parts = payload if isinstance(payload, tuple) else (payload,)
        if max(memoryview(part).nbytes for part in parts) > largest:
            return too_large(value, largest)
        return status, payload
