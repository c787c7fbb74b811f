"""Listeners that any process of the program can connect to, by the host agents: those of managers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from multiprocessing import connection as standard
from multiprocessing import managers
from typing import Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._processes import ends, membership
from manyhands.multiprocessing.connection import Connection
from manyhands_shared.errors import SharedStateLost
from manyhands_shared.protocol.messages.coordination import CONNECTS

#: By which the standard library's managers find a listener and a client.
SERIALIZER = "manyhands"
_PREFIX = "mh:"
#: Of an end, and of an agent.
_DIGITS = 32


class AgentAddress(str):
    """Where such a listener is. A process that unpickles it can connect to it."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        reduction.note_proxy()
        return _unpickled, (str(self), membership.secret())


def _unpickled(address: str, secret: bytes) -> AgentAddress:
    """Return an address that a process of this program has pickled."""
    membership.join(secret)
    return AgentAddress(address)


def is_address(address: object) -> bool:
    """Return whether it is the address of such a listener."""
    return isinstance(address, str) and address.startswith(_PREFIX)


def authkey() -> bytes:
    """Return the key of the program's listeners: what knows the program's secret may connect."""
    return hashlib.blake2b(membership.secret(), digest_size=32, person=b"manager").digest()


class AgentListener:
    """Has the interface of `multiprocessing.connection.Listener`.

    Args:
        address: there is none to choose.
        _: what else the standard library's takes.

    Raises:
        OSError: the agent cannot keep it.
    """

    def __init__(self, address: object = None, **_: object) -> None:
        del address
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            end, agent = ends.deposit(theirs.fileno(), CONNECTS, keep=True)[:2]
        self._end = end
        self.address = AgentAddress(f"{_PREFIX}{end.hex()}{agent.hex()}")
        self.last_accepted = None

    def accept(self) -> Connection:
        """Wait for a process that connects; return the connection.

        Raises:
            OSError: the listener is closed, or its agent is gone.
        """
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            raise OSError("listener is closed")
        os.set_inheritable(descriptors[0], False)
        return Connection(descriptors[0])

    def close(self) -> None:
        """Let no process connect any more."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            ends.withdraw([self._end])


class _LaterConnection:
    """In place of a connection, where a proxy's finalizer has interrupted what makes connections.

    It takes the proxy's farewell to its referent, and a thread says that. The answer to it is nothing.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def send(self, request: tuple[Any, str, Any, Any]) -> None:
        """Have the request made.

        Raises:
            RuntimeError: it wants an answer.
        """
        if request[1] != "decref":
            raise RuntimeError("a finalizer cannot wait for an answer: use the proxy elsewhere")
        threading.Thread(
            target=self._say, args=(request,), name="manyhands-farewell", daemon=True
        ).start()

    def recv(self) -> tuple[str, None]:
        """Return what the server answers to it."""
        return "#RETURN", None

    def close(self) -> None:
        """Do nothing."""

    def _say(self, request: tuple[Any, str, Any, Any]) -> None:
        # Its manager may be gone, and the program over.
        with (
            contextlib.suppress(OSError, EOFError, SharedStateLost),
            connect(self._address) as made,
        ):
            made.send(request)
            made.recv()


def connect(address: str, **_: object) -> Any:
    """Return a connection to a listener, wherever it is. Has the interface of `connection.Client`.

    The key is the program's own.

    Raises:
        ConnectionRefusedError: it does not listen any more.
        AuthenticationError: it is of another program.
        ValueError: the manager has not been started.
    """
    if not is_address(address):
        raise ValueError(f"there is no manager at {address!r}: has it been started?")
    digits = address.removeprefix(_PREFIX)
    end, agent = bytes.fromhex(digits[:_DIGITS]), bytes.fromhex(digits[_DIGITS:])
    try:
        if not membership.begun().channel.may_wait:
            return _LaterConnection(address)
        descriptor = ends.claim((end, agent, CONNECTS, membership.secret()), "manager's address")
    except OSError as error:
        raise ConnectionRefusedError(str(error)) from None
    connection = Connection(descriptor)
    try:
        key = authkey()
        standard.answer_challenge(connection, key)
        standard.deliver_challenge(connection, key)
    except BaseException:
        connection.close()
        raise
    return connection


# A proxy finds its client by this, in any process that unpickles its address.
managers.listener_client[SERIALIZER] = (AgentListener, connect)  # type: ignore[attr-defined]
