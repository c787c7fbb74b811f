"""What a node does for the host agent: it listens for roots, starts the agent, and watches it.

Before it is used this costs one descriptor. The first connection, or the broker's word, has the node
start the agent. The node keeps the listening socket, so that another agent can take a dead one's place.

A host has one agent. If another node of the host has it, the agent started here is refused before it
accepts a connection, and leaves. The node then passes connections on to the other.
"""

from __future__ import annotations

import math
import os
import secrets
import selectors
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from manyhands_shared.transport import peer_credentials
from manyhands_worker.core import events
from manyhands_worker.host.processes import reap

if TYPE_CHECKING:
    from manyhands_worker.agent.config import AgentConfig
    from manyhands_worker.agent.process import AgentProcess

_BACKLOG = 128
_RESTART_SECONDS = 0.5
#: Connections that cannot be passed on now are looked at again this much later.
_LISTEN_SECONDS = 0.5
_LEAVE_SECONDS = 2.0
#: Whether there are sockets without a file.
AVAILABLE = sys.platform == "linux"


def listen() -> tuple[socket.socket, str]:
    """Return a listening socket, and its address: a name without a file that cannot be guessed.

    Raises:
        OSError: the system gives no socket.
    """
    address = f"@manyhands-agent-{secrets.token_hex(16)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind("\0" + address[1:])
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener, address


class AgentSupervisor:
    """Starts the agent when it is wanted, and says so when it dies.

    Args:
        selector: of the node.
        configure: makes what an agent of this id is started with.

    Raises:
        OSError: the system gives no socket.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        configure: Callable[[bytes, str], AgentConfig],
    ) -> None:
        self._selector = selector
        self._configure = configure
        self._listener, self.address = listen()
        self._process: AgentProcess | None = None
        self._agent = b""
        self._events: list[events.Event] = []
        self._start_at = math.inf
        #: After an agent that has left: the broker may not have said yet where the host's is.
        self._not_before = 0.0
        self._draining = False
        #: Where another node's agent of this host listens; empty unless the broker has said so.
        self._elsewhere = ""
        self._watched = False
        #: When to look again at connections that could not be passed on.
        self._listen_at = math.inf
        self._poll_listener(on=True)

    @property
    def deadline(self) -> float:
        """When `turn` has something to do."""
        return 0.0 if self._events else min(self._start_at, self._listen_at)

    @property
    def running(self) -> bool:
        """Whether there is an agent."""
        return self._process is not None

    def want(self) -> None:
        """Start an agent, unless one runs."""
        self._elsewhere = ""
        if self._process is None and self._start_at == math.inf and not self._draining:
            self._start_at = max(time.monotonic(), self._not_before)
            self._poll_listener(on=False)

    def pass_on(self, address: str) -> None:
        """Pass on what connects here: another node's agent serves this host."""
        self._elsewhere = address

    def turn(self, now: float) -> list[events.Event]:
        """Start the agent if it is time; return what happened."""
        if now >= self._start_at:
            self._start(now)
        if now >= self._listen_at:
            self._poll_listener(on=True)
        events, self._events = self._events, []
        return events

    def drain(self) -> None:
        """Have the agent leave when its members have ended, and start no other."""
        if not self._draining:
            self._draining = True
            self._start_at = math.inf
            self._poll_listener(on=False)
            if self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """End the agent, and with it every member."""
        self._draining = True
        self._poll_listener(on=False)
        self._listener.close()
        process, self._process = self._process, None
        if process is None:
            return
        self._selector.unregister(process.sentinel)
        # The second one says: at once.
        for _ in range(2):
            process.terminate()
        if not wait([process.sentinel], timeout=_LEAVE_SECONDS):
            process.kill()
        process.join()
        process.close()

    def _start(self, now: float) -> None:
        from manyhands_worker.agent.process import AgentProcess  # noqa: PLC0415 - for nodes with programs

        self._agent = os.urandom(16)
        try:
            self._process = AgentProcess.launch(
                self._configure(self._agent, self.address), self._listener
            )
        except (OSError, EOFError) as error:
            self._start_at = now + _RESTART_SECONDS
            reason = f"cannot start the host agent: {error}"
            self._events.append(events.AgentDied(bytes(16), reason))
            return
        self._start_at = math.inf
        self._selector.register(
            self._process.sentinel, selectors.EVENT_READ, lambda _: self._died()
        )

    def _died(self) -> None:
        process = self._process
        if process is None:
            return
        self._selector.unregister(process.sentinel)
        has_left = process.exitcode == 0
        how = reap(process)
        self._process = None
        if not self._draining:
            if has_left:
                self._not_before = time.monotonic() + _RESTART_SECONDS
            else:
                self._events.append(events.AgentDied(self._agent, f"the host agent {how}"))
            self._poll_listener(on=True)

    def _connected(self) -> None:
        """Serve what connects: by the other node's agent of this host, else by one of this node's."""
        if not self._elsewhere:
            self.want()
            return
        try:
            sock = peer_credentials.connect(self._elsewhere, blocking=False)
        except BlockingIOError:
            # It has many to accept first.
            self._listen_later()
            return
        except OSError:
            self.want()
            return
        # 10 ms, where a host has several nodes, and programs.
        from manyhands_shared.coordination.channel import MemberChannel  # noqa: PLC0415
        from manyhands_shared.protocol.messages.coordination import PassedOn  # noqa: PLC0415

        channel = MemberChannel(sock)
        try:
            with self._listener.accept()[0] as connection:
                channel.send(PassedOn(self.address), [connection.fileno()])
        except BlockingIOError:
            return  # it has left again
        except OSError:
            self._listen_later()
        finally:
            channel.close()

    def _listen_later(self) -> None:
        """Not at once: the selector would tell of the same connection again without end."""
        self._poll_listener(on=False)
        self._listen_at = time.monotonic() + _LISTEN_SECONDS

    def _poll_listener(self, *, on: bool) -> None:
        self._listen_at = math.inf
        if on and not self._watched:
            self._selector.register(
                self._listener, selectors.EVENT_READ, lambda _: self._connected()
            )
        elif self._watched and not on:
            self._selector.unregister(self._listener)
        self._watched = on
