"""What a process has loaded, told by itself."""

from __future__ import annotations

import socket
import sys
from multiprocessing.connection import Connection


class TellingSocket:
    """A socket that tells over `pipe` which modules are loaded in the process that first uses it."""

    def __init__(self, sock: socket.socket, pipe: Connection) -> None:
        self._sock = sock
        self._pipe = pipe

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)
        self._pipe.send(sorted(sys.modules))

    def fileno(self) -> int:
        return self._sock.fileno()
