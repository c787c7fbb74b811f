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

from manyhands_shared.protocol.parts import KEY_BYTES
from manyhands_shared.shm.lender import ADDRESS, AT, COMPARE, DROP, GIVE, PACKET_BYTES
from manyhands_shared.shm.lender_connection import LenderConnection
from manyhands_shared.shm.mapping import map_segment
from manyhands_shared.transport import peer_credentials

#: A descriptor, to be closed by the taker, and where in it the segment begins.
Found = tuple[int, int]
#: (lender, key) and what has come; None: the lender does not have it.
Answer = tuple[str, bytes, Found | None]

_INT = array("i").itemsize


# How often this process has forked, or was forked: what was borrowed before may have two users.
_forks = 0


def _forked() -> None:
    global _forks  # noqa: PLW0603 - as `os.register_at_fork` leaves no other place
    _forks += 1


os.register_at_fork(after_in_parent=_forked, after_in_child=_forked)


class Borrower:
    """Borrows segments of any number of lenders.

    `fd` can be read when `turn` has something to do. Nothing here waits, save `borrow`.

    Args:
        dropped: called with lender and key when a lender wants a segment back, and with a key of
            None when the lender is gone.
    """

    def __init__(self, dropped: Callable[[str, bytes | None], None] | None = None) -> None:
        self._dropped = dropped
        self._lenders: dict[str, LenderConnection] = {}
        self._names: dict[int, str] = {}
        self._asked: dict[str, list[bytes]] = {}
        self._refused: list[Answer] = []
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()

    def ask(self, lender: str, key: bytes, hint: bytes = b"") -> None:
        """Ask for a segment; `turn` brings the answer."""
        try:
            peer = self._lenders.get(lender) or self._connect(lender)
            peer.socket.send(GIVE + key + hint)
        except OSError:
            self._refused.append((lender, key, None))
            return
        self._asked.setdefault(lender, []).append(key)

    def turn(self) -> list[Answer]:
        """The answers that have come."""
        answers, self._refused = self._refused, []
        for fd, events in self._epoll.poll(0):
            lender = self._names[fd]
            if events & select.EPOLLOUT and self._lenders[lender].flush():
                self._epoll.modify(fd, select.EPOLLIN)
            if events & ~select.EPOLLOUT:
                self._read(lender, answers)
        return answers

    @property
    def pending(self) -> bool:
        """Whether `turn` has answers that `fd` does not tell of."""
        return bool(self._refused)

    def borrow(
        self, lender: str, key: bytes, hint: bytes, timeout: float
    ) -> tuple[bool, Found | None]:
        """Ask, and wait up to `timeout` seconds: whether an answer came, and the answer.

        Without one, what comes later is for `discard`.
        """
        self.ask(lender, key, hint)
        due = time.monotonic() + timeout
        while True:
            over = None
            for name, other, found in self.turn():
                if (name, other) == (lender, key) and over is None:
                    over = True, found
                else:  # it was asked for earlier, and came too late
                    self._let_go(name, other, found)
            if over is not None:
                return over
            left = due - time.monotonic()
            if left <= 0 or not self._epoll.poll(left):
                return False, None

    def discard(self) -> None:
        """Give back what comes too late."""
        for name, key, found in self.turn():
            self._let_go(name, key, found)

    def _let_go(self, lender: str, key: bytes, found: Found | None) -> None:
        if found is not None:
            os.close(found[0])
            self.returning(lender, key)()

    @property
    def asking(self) -> bool:
        """Whether an answer is still to come."""
        return any(self._asked.values())

    def returning(self, lender: str, key: bytes) -> Callable[[], None]:
        """What to call, on any thread, when the segment is needed no more.

        While the caller keeps it, the connection stays open, even if this borrower is closed. To the
        lender the connection's end means that this process has no view of the segment any more.
        After a fork that cannot be known sooner.
        """
        peer, forks = self._lenders.get(lender), _forks

        def give_back() -> None:
            if peer is not None and forks == _forks:
                peer.give_back(key)

        return give_back

    @property
    def owing(self) -> bool:
        """Whether something is given back that its lender has not heard of yet."""
        return any(peer.waiting for peer in self._lenders.values())

    def close(self) -> None:
        """Give back everything."""
        for peer in self._lenders.values():
            self._epoll.unregister(peer.socket)
        self._lenders.clear()
        self._names.clear()
        self._epoll.close()

    def _connect(self, lender: str) -> LenderConnection:
        # The name came with a message: it must not lead to a socket of another program.
        if not lender.startswith(ADDRESS):
            raise ConnectionRefusedError(f"{lender[:80]!r} is no lender's address")
        # What comes from there is unpickled, and a name is free as soon as its lender has died. So it
        # has to be this user's.
        connection = peer_credentials.connect(lender, socket.SOCK_SEQPACKET, blocking=False)
        peer = self._lenders[lender] = LenderConnection(connection, self._wait_for_room)
        self._names[connection.fileno()] = lender
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        return peer

    def _wait_for_room(self, fd: int) -> None:
        """On any thread."""
        with contextlib.suppress(OSError, ValueError):  # it was closed in the meantime
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    def _read(self, lender: str, answers: list[Answer]) -> None:
        peer = self._lenders[lender]
        connection = peer.socket
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
            kind, key, rest = packet[:1], packet[1 : 1 + KEY_BYTES], packet[1 + KEY_BYTES :]
            if kind == DROP:
                if self._dropped is not None:
                    self._dropped(lender, key)
            elif kind == COMPARE:
                peer.compare(packet[1:])
            else:
                self._answered(peer, lender, key, fd, rest, answers)

    def _answered(
        self,
        peer: LenderConnection,
        lender: str,
        key: bytes,
        fd: int | None,
        rest: bytes,
        answers: list[Answer],
    ) -> None:
        at = AT.unpack(rest)[0] if len(rest) == AT.size else None
        if at is not None:
            peer.taken(key)
            if fd is None:  # there was no descriptor for it: the lender need not keep it for this
                peer.give_back(key)
        asked = self._asked.get(lender, [])
        if key in asked:
            asked.remove(key)
            answers.append((lender, key, None if fd is None else (fd, at or 0)))
        elif fd is not None:
            os.close(fd)
            peer.give_back(key)

    def _part(self, lender: str, answers: list[Answer]) -> None:
        peer = self._lenders.pop(lender)
        connection = peer.socket
        del self._names[connection.fileno()]
        self._epoll.unregister(connection.fileno())
        connection.close()
        answers += [(lender, key, None) for key in self._asked.pop(lender, [])]
        if self._dropped is not None:
            self._dropped(lender, None)


def private_view(
    fd: int, size: int, given_up: Callable[[], None] | None = None, at: int = 0
) -> memoryview:
    """Map a segment so that writes are the caller's own: pages are copied when they are written to.

    It begins `at` bytes into the file.

    `given_up` is called, on any thread, when nothing looks at the memory any more.

    Raises:
        OSError, ValueError: it cannot be mapped.
    """
    memory = map_segment(fd, size, at, shared=False, writable=True)
    return memoryview(_watched(memory, given_up))


def shared_view(
    fd: int, size: int, given_up: Callable[[], None] | None = None, at: int = 0
) -> memoryview:
    """Map a segment to read from it; otherwise as `private_view`."""
    memory = map_segment(fd, size, at, shared=True, writable=False)
    return memoryview(_watched(memory, given_up)).toreadonly()


def _watched(memory: mmap.mmap, given_up: Callable[[], None] | None) -> mmap.mmap:
    if given_up is not None:
        weakref.finalize(memory, given_up).atexit = False
    return memory
