"""The process behind a `Process`, wherever it runs: what `BaseProcess` wants of a Popen."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import context, util
from multiprocessing.process import BaseProcess
from typing import Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._processes import membership, preparation
from manyhands.multiprocessing._processes.program import Program, standard_streams
from manyhands.multiprocessing.context import get_start_method
from manyhands_shared import shm
from manyhands_shared.coordination import identity
from manyhands_shared.coordination.channel import MAX_DESCRIPTORS
from manyhands_shared.errors import ProcessNotStarted
from manyhands_shared.protocol import labels

#: How long `start` waits once the process runs, unless it ends before. A program that starts one
#: process after another, and counts on a short one being over, works on one machine.
HEAD_START = 0.005
#: A busy machine needs longer for it, and has needed longer to begin the process: this share of that
#: time, within a bound. An idle one begins it in less than four times `HEAD_START`.
_HEAD_SHARE, LONGEST_HEAD_START = 0.25, 0.25


def _head_start(beginning: float) -> float:
    """Return how long to wait for a process whose beginning has taken this time."""
    return max(HEAD_START, min(LONGEST_HEAD_START, _HEAD_SHARE * beginning))


class _Unawaited(threading.local):
    """The processes that `start_all` starts; None outside of it."""

    started: list[Popen] | None = None


_unawaited = _Unawaited()


class Popen:
    """Start a process; return when it runs, or has ended already.

    Args:
        process: the `Process`.

    Raises:
        ProcessNotStarted: no host can have it; it can be started again.
        ManyhandsError: there is no cluster.
    """

    method = "manyhands"

    def __init__(self, process: BaseProcess) -> None:
        util._flush_std_streams()  # type: ignore[attr-defined]
        program = membership.current()
        self.id = identity.new_id()
        self.name = process.name
        #: The node that it runs on.
        self.node = ""
        self.pid: int | None = None
        self.returncode: int | None = None
        self._program = program
        self._error = ""
        self._known = threading.Event()
        #: When its place was known, and when it ran.
        self._placed_at = self._began_at = 0.0
        self._bound: list[int] = []
        #: What the descriptors are that it holds, for people.
        self._bindings: list[str] = []
        #: Proxies that it is given: their referents stay until it has ended, whatever is let go here.
        self._proxies: Any = None
        #: Memory that it opens: that is there until it has done so.
        self._memory: Sequence[Any] = ()
        self.sentinel, self._exit = os.pipe()
        self.finalizer = util.Finalize(self, os.close, (self.sentinel,))
        try:
            self._start(process, program)
        except BaseException:
            self._close_exit()
            self.close()
            raise

    def _start(self, process: BaseProcess, program: Program) -> None:
        context.set_spawning_popen(self)  # type: ignore[arg-type]
        try:
            packed = reduction.dumps_process(process)
        finally:
            context.set_spawning_popen(None)
        if reduction.has_proxies():
            self._proxies = dict(vars(process))
        bodies = [
            preparation.describe(program.secret, os.getpid(), program.where, _method(process)),
            packed.payload,
            preparation.describe_here(),
        ]
        descriptors = [*standard_streams(), *self._bound]
        if len(descriptors) > MAX_DESCRIPTORS:
            raise ProcessNotStarted(
                f"cannot start {self.name}: it holds {len(self._bound)} open files and sockets, "
                f"{MAX_DESCRIPTORS - 2} at most can go along"
            )
        self._memory = packed.memory
        program.start(self, self._options(process), packed.carries, bodies, descriptors)
        if _unawaited.started is not None:
            _unawaited.started.append(self)
            return
        try:
            self.wait_begun()
        except BaseException:
            if not self._error:
                # Ctrl-C: nothing would ever join it.
                self.kill()
            raise
        self._wait_sentinel(_head_start(self._began_at - self._placed_at))

    def _options(self, process: BaseProcess) -> dict[str, Any]:
        import cloudpickle  # noqa: PLC0415 - loaded by the pickling

        options: dict[str, Any] = {
            "name": self.name[:200],
            "daemon": bool(process.daemon),
            "needs": list(labels.by_value(cloudpickle.__version__)),
        }
        if self._bindings:
            options["near"] = shm.host_id()
            options["bound"] = ", ".join(self._bindings)[:200]
        placing = getattr(process, "_placing", "")
        if placing:
            options[placing] = shm.host_id()
            options["bound"] = options.get("bound", "an address of this host")
        if node := getattr(process, "_node", None):
            options["node"] = str(node)
        return options

    # What BaseProcess and multiprocessing call

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None and not flag & os.WNOHANG:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end, `timeout` seconds at most; return the exit code, or None."""
        if self.returncode is None:
            self._wait_sentinel(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, wherever it runs; one that has ended gets none."""
        if self.returncode is None:
            with contextlib.suppress(OSError):
                self._program.send_signal(self.id, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go of it."""
        self.finalizer()

    def duplicate_for_child(self, fd: int) -> int:
        """Have a descriptor go along; return its place."""
        self._bound.append(fd)
        self._bindings.append(_describe(fd))
        return len(self._bound) - 1

    def keep_here(self, why: str) -> None:
        """Have it run on this host, for what it is given."""
        self._bindings.append(why)

    def DupFd(self, place: int) -> Bound:  # noqa: N802 - multiprocessing's name
        """Return what becomes the descriptor in the new process."""
        return Bound(place)

    # What happens to it; on the channel's thread

    def placed(self, node: str) -> None:
        """It will run there."""
        self.node = node
        self._placed_at = time.monotonic()

    def refused(self, error: str) -> None:
        """It will not run."""
        self._error = error
        self._memory = ()
        self._known.set()

    def began(self, pid: int) -> None:
        """It runs."""
        self.pid = pid
        self._began_at = time.monotonic()
        self._memory = ()
        self._known.set()

    def ended(self, code: int) -> None:
        """It has ended."""
        self.returncode = code
        self._proxies = None
        self._close_exit()
        self._memory = ()
        self._known.set()

    # Waiting

    def wait_begun(self) -> None:
        """Wait until it runs or has ended.

        Raises:
            ProcessNotStarted: no host can have it.
        """
        while not self._known.wait(threading.TIMEOUT_MAX):
            pass
        if self._error:
            raise ProcessNotStarted(f"cannot start {self.name}: {self._error}")

    def _wait_sentinel(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.sentinel, select.POLLIN)
        while self.returncode is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if not poll.poll(left) and left is not None:
                return

    def _close_exit(self) -> None:
        if self._exit >= 0:
            os.close(self._exit)
            self._exit = -1


class Bound:
    """A descriptor inside a pickled process.

    Args:
        place: among those that came along.
    """

    #: In a new process: what came along.
    descriptors: list[int] = []  # noqa: RUF012 - one for the process

    def __init__(self, place: int) -> None:
        self._place = place

    def detach(self) -> int:
        """Return the descriptor, which is the caller's from now on."""
        return os.dup(self.descriptors[self._place])


@contextlib.contextmanager
def unawaited() -> Iterator[list[Popen]]:
    """Start processes in this context without waiting for each."""
    started: list[Popen] = []
    _unawaited.started = started
    try:
        yield started
    finally:
        _unawaited.started = None


def start_all(processes: Iterable[BaseProcess]) -> None:
    """Start many processes at once; return when all of them run.

    Raises:
        ProcessNotStarted: no host can have one of them. The others run.
    """
    with unawaited() as started:
        for process in processes:
            process.start()
    errors: list[ProcessNotStarted] = []
    for popen in started:
        try:
            popen.wait_begun()
        except ProcessNotStarted as error:
            errors.append(error)
            popen.ended(-signal.SIGKILL)
    if errors:
        raise errors[0]


def _method(process: Any) -> str | None:
    """Return the start method that a process is to see; None if none was chosen."""
    method: str | None = getattr(process, "_method", None) or get_start_method(allow_none=True)
    return method


def _describe(fd: int) -> str:
    """What a descriptor is, for people."""
    try:
        what = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - as text
    except OSError:
        return "an open file"
    if what.startswith("socket:"):
        return f"an open socket{_name_of(fd)}"
    return "a pipe" if what.startswith("pipe:") else f"the open file {what}"


def _name_of(fd: int) -> str:
    """Return where a socket is bound, in parentheses; empty if it has no such name."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        kind = {socket.SOCK_DGRAM: "UDP", socket.SOCK_STREAM: "TCP"}.get(sock.type)
        name = sock.getsockname()
        is_ip = sock.family in (socket.AF_INET, socket.AF_INET6)
    return f" ({kind} {name[0]}:{name[1]})" if is_ip and kind else ""
