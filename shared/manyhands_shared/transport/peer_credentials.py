"""Whose process is at the other end of a Unix socket, and connections to those of this user alone."""

from __future__ import annotations

import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")  # process, user, group


def user_of(sock: socket.socket) -> int:
    """The user at the other end; where the system does not tell, the file's mode has to do.

    For a connection that was accepted that is who connected, for one that was made it is who listened.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[1])


def is_trusted(user: int) -> bool:
    """Whether that is our own user, or one who could read our memory anyway."""
    return user in (0, os.geteuid())


def connect(
    name: str, kind: socket.SocketKind = socket.SOCK_STREAM, *, blocking: bool = True
) -> socket.socket:
    """Return a connection to a socket without a file; `name`: with or without an ``@``.

    Raises:
        OSError: no process listens there, or another user's does.
    """
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.setblocking(blocking)
        sock.connect("\0" + name.removeprefix("@"))
        check(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def check(sock: socket.socket) -> None:
    """Refuse a connected socket whose other end is another user's.

    A name without a file belongs to the first process that takes it, of any user. So both ends ask.

    Raises:
        PermissionError: the other end is another user's, root's apart.
    """
    user = user_of(sock)
    if not is_trusted(user):
        raise PermissionError(f"the other end is user {user}'s, and is not trusted")
