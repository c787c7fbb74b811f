"""The side that borrows segments, maps them and gives them back."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
import time
import weakref
from array import array
from collections.abc import Callable

from manyhands_shared import peer
from manyhands_shared.loans.lender import ADDRESS, DROP, GIVE, KEY_BYTES, PACKET_BYTES, RETURN

#: (lender, key), and a descriptor to be closed by whoever takes it; None: it is not to be had.
Answer = tuple[str, bytes, int | None]

_INT = array("i").itemsize


# How often this process has forked, or was forked: what was borrowed before may have two users.
_forks = 0


def _forked() -> None:
    global _forks  # noqa: PLW0603 - as `os.register_at_fork` leaves no other place
    _forks += 1


os.register_at_fork(after_in_parent=_forked, after_in_child=_forked)


class _Line:
    """A connection that closes when its last user lets go of it."""

    __slots__ = ("socket",)

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def __del__(self) -> None:
        self.socket.close()


class Borrower:
    """Borrows segments of any number of lenders.

    `fd` can be read when `turn` has something to do. Nothing here waits, save `borrow`.

    Args:
        dropped: called with lender and key when a lender wants a segment back, and with a key of
            None when the lender is gone.
    """

    def __init__(self, dropped: Callable[[str, bytes | None], None] | None = None) -> None:
        self._dropped = dropped
        self._lenders: dict[str, _Line] = {}
        self._names: dict[int, str] = {}
        self._asked: dict[str, list[bytes]] = {}
        self._refused: list[Answer] = []
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()

    def ask(self, lender: str, key: bytes, hint: bytes = b"") -> None:
        """Ask for a segment; `turn` brings the answer."""
        try:
            line = self._lenders.get(lender) or self._connect(lender)
            line.socket.send(GIVE + key + hint)
        except OSError:
            self._refused.append((lender, key, None))
            return
        self._asked.setdefault(lender, []).append(key)

    def turn(self) -> list[Answer]:
        """The answers that have come."""
        answers, self._refused = self._refused, []
        for fd, _ in self._epoll.poll(0):
            self._read(self._names[fd], answers)
        return answers

    @property
    def pending(self) -> bool:
        """Whether `turn` has answers of which `fd` does not tell."""
        return bool(self._refused)

    def borrow(self, lender: str, key: bytes, hint: bytes, timeout: float) -> int | None:
        """Ask, and wait up to `timeout` seconds for the answer."""
        self.ask(lender, key, hint)
        due = time.monotonic() + timeout
        while True:
            for name, found, fd in self.turn():
                if (name, found) == (lender, key):
                    return fd
                if fd is not None:
                    os.close(fd)
            left = due - time.monotonic()
            if left <= 0 or not self._epoll.poll(left):
                return None

    def returning(self, lender: str, key: bytes) -> Callable[[], None]:
        """What to call, on any thread, when the segment is needed no more.

        While anybody keeps it, the connection stays open, even if this borrower is closed: to the
        lender its end means that nobody looks at the segment any more. After a fork that cannot be
        known sooner.
        """
        line, forks = self._lenders.get(lender), _forks

        def give_back() -> None:
            if line is not None and forks == _forks:
                with contextlib.suppress(OSError):  # it is gone, and needs no telling
                    line.socket.send(RETURN + key)

        return give_back

    def close(self) -> None:
        """Give back everything."""
        for line in self._lenders.values():
            self._epoll.unregister(line.socket)
        self._lenders.clear()
        self._names.clear()
        self._epoll.close()

    def _connect(self, lender: str) -> _Line:
        # The name came with a message: it must not lead to a socket of another program.
        if not lender.startswith(ADDRESS):
            raise ConnectionRefusedError(f"{lender[:80]!r} is no lender's address")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.setblocking(False)
            connection.connect("\0" + lender)
            # What comes from there is unpickled, and a name is free as soon as its lender has died.
            peer.check(connection)
        except BaseException:
            connection.close()
            raise
        line = self._lenders[lender] = _Line(connection)
        self._names[connection.fileno()] = lender
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        return line

    def _read(self, lender: str, answers: list[Answer]) -> None:
        connection = self._lenders[lender].socket
        while True:
            try:
                packet, rights, _, _ = connection.recvmsg(
                    PACKET_BYTES, socket.CMSG_SPACE(_INT), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                packet, rights = b"", []
            if not packet:
                self._part(lender, answers)
                return
            fd = next((int.from_bytes(data[:_INT], "little") for _, _, data in rights), None)
            kind, key = packet[:1], packet[1 : 1 + KEY_BYTES]
            if kind == DROP:
                if self._dropped is not None:
                    self._dropped(lender, key)
                continue
            asked = self._asked.get(lender, [])
            if key in asked:
                asked.remove(key)
                answers.append((lender, key, fd))
            elif fd is not None:
                os.close(fd)

    def _part(self, lender: str, answers: list[Answer]) -> None:
        line = self._lenders.pop(lender)
        connection = line.socket
        del self._names[connection.fileno()]
        self._epoll.unregister(connection.fileno())
        connection.close()
        answers += [(lender, key, None) for key in self._asked.pop(lender, [])]
        if self._dropped is not None:
            self._dropped(lender, None)


def private_view(fd: int, size: int, given_up: Callable[[], None] | None = None) -> memoryview:
    """Map a segment so that writes are the caller's own: pages are copied when they are written to.

    `given_up` is called, on any thread, when nothing looks at the memory any more.

    Raises:
        OSError, ValueError: it cannot be mapped.
    """
    memory = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return _watched(memory, given_up)


def shared_view(fd: int, size: int, given_up: Callable[[], None] | None = None) -> memoryview:
    """Map a segment to read from it; otherwise as `private_view`."""
    memory = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    return _watched(memory, given_up)


def _watched(memory: mmap.mmap, given_up: Callable[[], None] | None) -> memoryview:
    if given_up is not None:
        weakref.finalize(memory, given_up).atexit = False
    return memoryview(memory)
