"""Descriptors that travel inside pickles: a duplicate waits at the host agent until it is claimed.

On the same host the claimer gets the very descriptor. Elsewhere the end of a pipe becomes the end of a
stream that the agents move; any other descriptor stays on its host.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection as standard
from multiprocessing.context import get_spawning_popen
from typing import Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._processes import membership
from manyhands_shared.coordination.identity import NO_ID, new_id
from manyhands_shared.errors import SharedStateLost
from manyhands_shared.protocol.messages.coordination import (
    BOTH,
    DESCRIPTOR,
    GONE,
    RECEIVES,
    SENDS,
    Deposit,
    Open,
    Shut,
)

#: Name of the end, id of the agent that has it, way, secret of the program.
State = tuple[bytes, bytes, int, bytes]


class _Keeping(threading.local):
    """Whether what is pickled now may be claimed again and again."""

    on = False


_keeping = _Keeping()


@contextmanager
def reusable() -> Iterator[None]:
    """Within this context, what is pickled can be loaded by any number of processes."""
    was, _keeping.on = _keeping.on, True
    try:
        yield
    finally:
        _keeping.on = was


def deposit(descriptor: int, way: int, *, keep: bool = False) -> State:
    """Have the agent keep a duplicate of a descriptor; return what `claim` takes.

    Raises:
        OSError: the agent cannot keep it.
    """
    program = membership.current()
    end = new_id()
    holder = getattr(get_spawning_popen(), "id", NO_ID)
    message = Deposit(end, program.member, holder, way, keep or _keeping.on)
    answer, _ = program.channel.exchange(end, message, [descriptor])
    if answer.error:
        raise OSError(answer.error)
    reduction.note_end(end)
    return end, answer.agent, way, program.secret


def withdraw(ends: Sequence[bytes]) -> None:
    """Let go of deposits that no process will claim."""
    with suppress(SharedStateLost):
        program = membership.begun()
        for end in ends:
            program.channel.say(Shut(end, NO_ID, GONE, 0))


def claim(state: State, what: str) -> int:
    """Return a descriptor that another process has deposited, or one that leads to it.

    Args:
        state: what `deposit` has returned.
        what: what users call it.

    Raises:
        OSError: it is not there any more, or cannot leave its host.
        ValueError: it is of another program.
    """
    end, agent, way, secret = state
    membership.belong(secret, what)
    program = membership.of(secret)
    stream = new_id()
    message = Open(stream, end, program.member, program.id, agent, way)
    answer, descriptors = program.channel.exchange(stream, message)
    if answer.error or not descriptors:
        raise OSError(f"this {what} cannot be used here: {answer.error}")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


class Travelling:
    """A descriptor inside a pickle, in place of the standard library's of this interface.

    Args:
        state: what `deposit` has returned.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def detach(self) -> int:
        """Return the descriptor, which is the caller's from now on."""
        return claim(self._state, "open socket or file")


def duplicate(fd: int) -> Any:
    """Return what becomes the descriptor `fd` in the process that unpickles it.

    A process that is started with it runs on this host. Elsewhere unpickling it raises `OSError`.
    """
    popen: Any = get_spawning_popen()
    if popen is not None:
        return popen.DupFd(popen.duplicate_for_child(fd))
    return Travelling(deposit(fd, DESCRIPTOR))


def reduce_connection(connection: Any) -> tuple[Any, ...]:
    """Pickle a connection."""
    receives = BOTH if connection.writable else RECEIVES
    way = receives if connection.readable else SENDS
    return rebuild_connection, deposit(connection.fileno(), way)


def rebuild_connection(*state: Any) -> Any:
    """Return a connection that another process has pickled."""
    from manyhands.multiprocessing.connection import Connection  # noqa: PLC0415 - it needs this module

    way = state[2]
    return Connection(claim(state, "connection"), readable=way != SENDS, writable=way != RECEIVES)


def _reduce_socket(sock: socket.socket) -> tuple[Any, ...]:
    end = duplicate(sock.fileno())
    return _rebuild_socket, (end, sock.family, sock.type, sock.proto, sock.gettimeout())


def _rebuild_socket(
    end: Any, family: int, kind: int, protocol: int, timeout: float | None
) -> socket.socket:
    sock = socket.socket(family, kind, protocol, fileno=end.detach())
    # The descriptor of a socket with a timeout does not block, so that without it calls would fail.
    if timeout is not None:
        sock.settimeout(timeout)
    return sock


_REDUCERS: dict[type, Any] = {
    standard.Connection: reduce_connection,
    socket.socket: _reduce_socket,
}


def reducers() -> dict[type, Any]:
    """Return how descriptors are pickled."""
    return _REDUCERS
