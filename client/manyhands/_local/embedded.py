"""The cluster of one pool, executor or command: a broker and a node in one process of its own.

The two serve one client, so neither has a reason to outlive the other, and a lone task is spared the
way between them. When the process dies, another takes its place at the same address. The session says
hello to it as to any broker that was started anew, and submits again what had not ended. Only tasks
that may not run twice are lost, and durable ones, which no journal has.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from manyhands._local.subprocesses import Ready, Subprocesses
from manyhands_shared.errors import ManyhandsError
from manyhands_shared.processes.shortage import is_shortage
from manyhands_shared.processes.thread_start import must_start

log = logging.getLogger("manyhands.client")

#: `DEATHS` within `_WITHIN_SECONDS` are no accident.
DEATHS, _WITHIN_SECONDS = 5, 600.0
#: What the system is short of is waited for, this long in all; then another attempt is made.
_SHORTAGE_SECONDS, _AGAIN_SECONDS = 60.0, 0.5
#: Far more than children that one machine can have.
MAX_SLOTS = 1 << 16


def check_slots(slots: int | None) -> None:
    """Refuse a number of slots that no node can have.

    Raises:
        ValueError: fewer than 1, or more than `MAX_SLOTS`.
    """
    if slots is not None and slots < 1:
        raise ValueError("a node needs at least 1 slot")
    if slots is not None and slots > MAX_SLOTS:
        raise ValueError(f"a node has at most {MAX_SLOTS} slots, not {slots}")


class EmbeddedCluster:
    """Starts the process, and replaces it when it dies. See the module.

    Args:
        slots: tasks that run at once; `None` is one for each core this process may use.
        programs: whether a program's processes will run on it, so that its host agent starts at once.
        wait: whether to return when it serves, rather than at once; `wait` is to be called then.

    Raises:
        ValueError: see `check_slots`.
        ManyhandsError: it did not start; what it said is on stderr.
    """

    def __init__(
        self, slots: int | None = None, *, programs: bool = False, wait: bool = True
    ) -> None:
        check_slots(slots)
        self._slots = slots or 0
        self._programs = programs
        self._processes = Subprocesses()
        self._closed = threading.Event()
        #: Where its broker listens.
        self.address = embedded_address()
        self._ready: Ready | None = None
        try:
            self._ready = self._start()
            if wait:
                self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Return when it serves for the first time.

        Raises:
            ManyhandsError: it did not start; what it said is on stderr.
        """
        if self._ready is not None:
            self.address = self._ready.wait()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def keep(self, give_up: Callable[[BaseException], None]) -> None:
        """From now on start it anew when it dies; call `give_up` when that seems to be of no use.

        Raises:
            OSError: the system gives no thread.
        """
        must_start(
            threading.Thread(
                target=self._keep, args=(give_up,), name="manyhands-keeper", daemon=True
            )
        )

    def close(self) -> None:
        """End it, and wait until it is gone: a moment, whatever it runs. May be repeated."""
        self._closed.set()
        self._processes.close(drain=False)
        if self._ready is not None:
            self._ready.close()

    def _start(self) -> Ready:
        node: dict[str, object] = {
            "broker": self.address,
            "name": f"own-{self._processes.pid}",
            "slots": self._slots,
        }
        # Its standard streams are those of its client, to whom what tasks print comes in any case.
        node |= {"agent_at_start": self._programs, "discard_output": True}
        self._process, ready = self._processes.start_server(
            "manyhands._local.embedded_main",
            "broker",
            works=True,
            broker_json={"bind": self.address},
            worker_json=node,
        )
        return ready

    def _keep(self, give_up: Callable[[BaseException], None]) -> None:
        try:
            self._replace()
        except Exception as error:  # noqa: BLE001 - nothing would tell of the next death
            if not self._processes.closing:
                give_up(error if isinstance(error, ManyhandsError) else ManyhandsError(repr(error)))

    def _replace(self) -> None:
        """Replace the process whenever it dies, until the group is closed.

        Raises:
            ManyhandsError: that seems to be of no use.
        """
        deaths: list[float] = []
        while True:
            self._process.wait()
            if self._processes.closing:
                return
            how = _how(self._process)
            now = time.monotonic()
            deaths = [at for at in deaths if now - at < _WITHIN_SECONDS] + [now]
            if len(deaths) >= DEATHS:
                raise ManyhandsError(
                    f"the process of this cluster {how}, {DEATHS} times within ten minutes: look for "
                    "what ends it (memory? a task that kills?), or use a cluster that is apart"
                )
            log.warning(
                "the process of this cluster %s; another takes its place, and what had not ended runs "
                "again",
                how,
            )
            self._processes.forget(self._process)
            ready = self._start_again(how)
            try:
                ready.wait()
            except ManyhandsError:
                self._process.kill()  # if it is not dead already: it counts as another death

    def _start_again(self, how: str) -> Ready:
        """Start it after it has died; wait for what the system is short of.

        Raises:
            ManyhandsError: it cannot be started, or the group was closed.
        """
        until = time.monotonic() + _SHORTAGE_SECONDS
        while True:
            try:
                return self._start()
            except OSError as error:
                if not is_shortage(error) or time.monotonic() >= until:
                    text = f"the process of this cluster {how}, and {error}"
                    raise ManyhandsError(text) from error
                log.warning("another process cannot start yet: %s; trying again", error)
            self._closed.wait(_AGAIN_SECONDS)


def embedded_address() -> str:
    """Where a broker for this machine alone listens.

    A Unix socket spares every message the TCP stack twice. Linux has them without a file, which would
    have to be deleted; they are reached from where 127.0.0.1 is.
    """
    unix = f"unix://@manyhands-{os.getpid()}-{secrets.token_hex(8)}"
    return unix if sys.platform == "linux" else "tcp://127.0.0.1:0"


def _how(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"
