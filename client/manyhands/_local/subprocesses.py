"""Processes of ours that leave when this process does, however it ends."""

from __future__ import annotations

import atexit
import json
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from manyhands_shared.errors import ManyhandsError
from manyhands_shared.processes import hash_seed
from manyhands_shared.processes.interpreter import interpreter_options, run_module
from manyhands_shared.processes.lifecycle import above_standard
from manyhands_shared.processes.resource_tracker import tracker_fd

#: For a machine that is busy with much else: what cannot start at all ends before.
_START_SECONDS = 100.0
_POLL_MILLISECONDS = 100
#: How long those that work may take to finish what they run, and any to leave, before SIGKILL.
_DRAIN_SECONDS = 35.0
_MOMENT_SECONDS = 0.2
_LEAVE_SECONDS = 5.0

_groups: weakref.WeakSet[Subprocesses] = weakref.WeakSet()


class Subprocesses:
    """Starts processes and ends them.

    They find the modules that this process finds, and work in its directory, both as they are when the
    group is made. Each holds the far end of a *lifeline*, a pipe that carries nothing: its end is the
    end of this process.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        #: Whether all have been told to leave, and whether all have left.
        self.closing = self.closed = False
        self._members: list[subprocess.Popen[bytes]] = []
        self._workers: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._lifeline, self._lifeline_in = map(above_standard, os.pipe())
        # As they are now, whenever a member is started: a successor is to be like the one before.
        self._directory = _directory()
        self._path = list(sys.path)
        self._arguments = list(getattr(sys, "argv", ()))
        self._environment = _environment()
        _groups.add(self)

    @property
    def pids(self) -> list[int]:
        """Process ids of all members, in the order in which they were started."""
        return [process.pid for process in self._members]

    def start(
        self, module: str, *, works: bool, ready_fd: int | None = None, **configs: Mapping[str, Any]
    ) -> subprocess.Popen[bytes]:
        """Run a module as a process.

        Args:
            module: its name.
            works: whether it runs tasks, and is to be given time to finish them.
            ready_fd: it writes a line to this descriptor when it is ready.
            configs: its options of these names, as JSON.

        Raises:
            OSError: the system gives no process.
            ManyhandsError: the group was closed.
        """
        command = [sys.executable, *interpreter_options(), "-P"]
        command += ["-c", run_module(module, self._path, self._directory, self._arguments)]
        for name, config in configs.items():
            command += [f"--{name.replace('_', '-')}", json.dumps(config)]
        command += ["--parent-pid", str(self.pid), "--lifeline", str(self._lifeline)]
        inherited = [self._lifeline]
        if ready_fd is not None:
            command += ["--ready-fd", str(ready_fd)]
            inherited.append(ready_fd)
        if works and (tracker := tracker_fd()) is not None:
            command += ["--tracker-fd", str(tracker)]
            inherited.append(tracker)
        with self._lock:
            if self.closing:
                raise ManyhandsError("the cluster was closed")
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                # None where the directory is this process's own: it need not have a name any more.
                cwd=None if self._directory == _directory() else self._directory,
                env=self._environment,
                pass_fds=inherited,
                process_group=0,  # Ctrl-C in the terminal is for us; they leave when we say so
            )
            self._members.append(process)
            if works:
                self._workers.append(process)
        return process

    def start_server(
        self, module: str, what: str, *, works: bool = False, **configs: Mapping[str, Any]
    ) -> tuple[subprocess.Popen[bytes], Ready]:
        """The same for a process that says when it listens; `what` it is called before people."""
        ready, ready_in = map(above_standard, os.pipe())
        try:
            process = self.start(module, works=works, ready_fd=ready_in, **configs)
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(ready_in)
        return process, Ready(process, ready, what)

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """A member has ended, and another takes its place."""
        with self._lock:
            self._members.remove(process)
            if process in self._workers:
                self._workers.remove(process)

    def close(self, *, drain: bool) -> None:
        """End all of them, and wait until they are gone.

        With `drain`, those that work finish what they run, for half a minute at most; without, they have
        a moment. May be called again, and from any thread.
        """
        if self.pid != os.getpid():
            return  # a fork: the processes are the parent's
        self.closing = True
        with self._lock:
            if self.closed:
                return
            # Who has nothing to do drains at once.
            _end(self._workers, _DRAIN_SECONDS if drain else _MOMENT_SECONDS)
            self.closed = True
            # End of file on the lifeline tells those that are left to go at once.
            os.close(self._lifeline_in)
            os.close(self._lifeline)
            _wait(self._members, _LEAVE_SECONDS)
            for process in self._members:
                process.kill()
                process.wait()

    def let_go(self) -> None:
        """In a forked child: only the parent may hold the lifeline open."""
        if not self.closed and self._lifeline_in >= 0:
            descriptor = self._lifeline_in
            self._lifeline_in = -1  # the number may soon be another file's
            with suppress(OSError):
                os.close(descriptor)


class Ready:
    """The word of a process that it listens."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int, what: str) -> None:
        self._process = process
        self._what = what
        self._pipe = os.fdopen(descriptor, "rb")
        #: What it said of itself, beside its address.
        self.facts: dict[str, Any] = {}

    def wait(self) -> str:
        """The address at which it listens, once it does.

        Raises:
            ManyhandsError: it did not start.
        """
        poller = select.poll()
        deadline = time.monotonic() + _START_SECONDS
        with self._pipe as pipe:
            poller.register(pipe, select.POLLIN)
            # Its end alone would do, were there not forks of this process that hold the pipe open too.
            while not poller.poll(_POLL_MILLISECONDS) and self._process.poll() is None:
                if time.monotonic() >= deadline:
                    raise ManyhandsError(
                        f"the {self._what} did not start within {_START_SECONDS:.0f} s"
                    )
            line = pipe.readline() if poller.poll(0) else b""
        if not line:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LEAVE_SECONDS)
            code = self._process.returncode
            raise ManyhandsError(
                f"the {self._what} did not start (exit code {code}); see above why"
            )
        self.facts = json.loads(line)
        return str(self.facts["address"])

    def close(self) -> None:
        """Do not wait for it. May be repeated, and called after `wait`."""
        self._pipe.close()


def _environment() -> dict[str, str]:
    # A service manager hears of this process, not of those that it starts.
    environment = {name: text for name, text in os.environ.items() if name != "NOTIFY_SOCKET"}
    environment[hash_seed.VARIABLE] = str(hash_seed.choose())
    return environment


def _directory() -> str | None:
    """Return the current directory; None where it was removed, or may not be read."""
    try:
        return os.getcwd()  # noqa: PTH109 - as text, which is compared
    except OSError:
        return None


def _end(processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    _wait(processes, seconds)


def _wait(processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
    """Wait until all have ended, `seconds` at most in all."""
    deadline = time.monotonic() + seconds
    for process in processes:
        if process.returncode is None:
            _sleep_until_end(process.pid, max(0.0, deadline - time.monotonic()))
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))


def _sleep_until_end(pid: int, seconds: float) -> None:
    """Sleep until this child has ended: `Popen.wait` with a limit looks every 50 ms instead."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return  # not on this system; or it has ended, and another thread has taken note
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll(math.ceil(seconds * 1000))
    finally:
        os.close(descriptor)


def _close_all() -> None:
    for group in list(_groups):
        group.close(drain=False)


def _let_go_all() -> None:
    for group in list(_groups):
        group.let_go()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_let_go_all)
