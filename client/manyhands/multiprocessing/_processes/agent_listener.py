"""Listeners that any process of the program can connect to, by the host agents: those of managers."""

from __future__ import annotations

import hashlib
import os
import socket
from multiprocessing import connection as standard
from multiprocessing import managers
from typing import Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._processes import ends, membership
from manyhands.multiprocessing.connection import Connection
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
        return AgentAddress, (str(self),)


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


def connect(address: str, **_: object) -> Connection:
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
