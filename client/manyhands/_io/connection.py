"""From what the user gave to an open session: the address, the key, or a cluster of its own."""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import secrets
import threading
from pathlib import Path
from typing import Any

from manyhands._io.io_thread import CONNECT_SECONDS, IOThread
from manyhands._io.submit_queue import SubmitQueue
from manyhands._local.embedded import EmbeddedCluster
from manyhands._session import Session
from manyhands_shared import __version__, shm
from manyhands_shared.errors import ClusterClosed, ConfigError, ManyhandsError, Refused
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import PROTOCOL_VERSION, ClientHello
from manyhands_shared.security.role_key import credentials
from manyhands_shared.transport import address as addresses

#: Unfinished tasks, and bytes of their arguments, that a client holds before it makes callers wait.
MAX_PENDING = 1_000_000
MAX_PENDING_BYTES = 1 << 30
_ABORT_SECONDS = 30.0
_QUERY_SECONDS = 10.0

_open: set[Connection] = set()
_exit = threading.Event()


class Connection:
    """An open session and, if it needed one, the cluster that was started for it.

    Args:
        address: of the broker; else ``$MANYHANDS_BROKER``; else `default`. Without any, a cluster with
            `slots` slots (`None`: all cores) is started for this connection, and ends with it.
        key_file: the cluster's key; else ``$MANYHANDS_KEY_FILE``; else none.
        programs: whether the cluster is for the processes of a program.
        finish_at_exit: whether unfinished tasks are waited for when the interpreter exits.

    Raises:
        ConfigError: an address or key file that cannot be used.
        BrokerUnreachable, NotAuthorised, Refused: the broker does not take us in.
    """

    def __init__(  # noqa: PLR0913 - options of a session, all but two by name
        self,
        address: str | None,
        key_file: str | os.PathLike[str] | None,
        *,
        default: str | None = None,
        slots: int | None = None,
        name: str = "",
        limit: int = 0,
        max_pending: int = MAX_PENDING,
        connect_timeout: float | None = CONNECT_SECONDS,
        programs: bool = False,
        finish_at_exit: bool = False,
    ) -> None:
        self.cluster: EmbeddedCluster | None = None
        self._finish_at_exit = finish_at_exit
        if not isinstance(address, str | None):
            raise ConfigError(f"address takes a text, as tcp://host:7711, not {address!r:.80}")
        where = address or os.environ.get("MANYHANDS_BROKER") or default
        if where:
            where = ",".join(addresses.parse_all(where))
            key_name = key_file or os.environ.get("MANYHANDS_KEY_FILE")
            key = credentials(Path(key_name).expanduser(), "client") if key_name else None
        else:
            self.cluster = EmbeddedCluster(slots, programs=programs)
            where, key = self.cluster.address, None
        #: Where the broker is.
        self.address = where
        try:
            token, about = secrets.token_bytes(16), _about_us()
            if wrong := wire.refusal(ClientHello(PROTOCOL_VERSION, token, name, 0, limit, about)):
                raise ConfigError(f"no broker would take this client: {wrong}")
            session = Session(token, name=name, limit=limit, info=about)
            self.io = IOThread(where, key, session, SubmitQueue(max_pending, MAX_PENDING_BYTES))
        except BaseException:
            if self.cluster is not None:
                self.cluster.close()
            raise
        try:
            if self.cluster is not None:
                self.cluster.keep(lambda error: self.abort(error, wait=False))
            self.io.wait_open(connect_timeout)
        except BaseException:
            self.abort(ClusterClosed("could not connect"))
            raise
        _open.add(self)

    def slots(self, limit: int | None) -> int:
        """Return how many tasks can run at once, one at least: the limit, or the cluster's slots."""
        if limit is not None:
            return limit
        if not self.io.on_thread():  # a callback cannot wait for an answer
            with contextlib.suppress(ManyhandsError, TimeoutError):
                stats = self.io.ask("stats", {}).result(_QUERY_SECONDS)
                return max(1, int(stats["slots"]))
        return os.cpu_count() or 1

    def dashboard_url(self) -> str | None:
        """Return where the broker's dashboard is; `None` if it serves none.

        Raises:
            TimeoutError: no answer within half a minute.
        """
        try:
            return str(self.io.ask("dashboard", {}).result(_QUERY_SECONDS)["url"])
        except Refused:
            return None

    def finish(self, *, wait: bool) -> None:
        """Close once every task has ended; with `wait`, return when that is done."""
        self.io.close_when_idle(self._ended)
        if wait:
            self.io.join()

    def abort(self, error: BaseException, *, wait: bool = True) -> None:
        """Close now; what is unfinished fails with `error`."""
        self.io.close(error, self._ended)
        if wait:
            self.io.join(_ABORT_SECONDS)

    def _ended(self) -> None:
        if self.cluster is not None:
            self.cluster.close()
        _open.discard(self)

    def end_at_exit(self) -> None:
        """The interpreter exits: finish or abort, as this connection was made to."""
        if self._finish_at_exit:
            self.finish(wait=True)
        else:
            self.abort(ClusterClosed("the interpreter exits"))


def _about_us() -> dict[str, Any]:
    import cloudpickle  # noqa: PLC0415 - 20 ms that importing manyhands alone should not cost

    return {
        "manyhands": __version__,
        "python": platform.python_version(),
        "cloudpickle": cloudpickle.__version__,
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "host_id": shm.host_id(),
    }


def is_exiting() -> bool:
    """Whether the interpreter exits, and all connections have ended with it."""
    return _exit.is_set()


def _end_all() -> None:
    _exit.set()
    for connection in list(_open):
        connection.end_at_exit()


# After those of `subprocesses`: handlers run in reverse, and this one may need clusters to work.
atexit.register(_end_all)
