"""The side that has segments and lends them.

One `SOCK_SEQPACKET` connection for each borrower. What it says, one packet each: a letter, the
segment's 16-byte key, and for `G` a hint on where the segment is from::

    G key hint   give me this segment        H key at (and a descriptor)   here it is
    R key        I need it no more           N key                         it is not here
    A key …      I do not have these         D key                         let go of it when you can
                                             C key …                       you have these, I believe

A segment begins at byte `at` (u64, little-endian, whole pages) of the descriptor's file, which may hold
others too. A borrower that gets an `H` without a descriptor, for there is none left, gives it back.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from manyhands_shared.protocol.parts import KEY_BYTES
from manyhands_shared.transport.peer_credentials import is_trusted, user_of

GIVE, RETURN, HERE, NONE, DROP, ABSENT, COMPARE = b"G", b"R", b"H", b"N", b"D", b"A", b"C"
PACKET_BYTES = 4096
AT = struct.Struct("<Q")
#: Keys in one packet.
_KEYS = (PACKET_BYTES - 1) // KEY_BYTES
#: What the address of every lender begins with.
ADDRESS = "manyhands-"

_BACKLOG = 1024


@dataclass(slots=True)
class _Item:
    """A segment that is lent, and who has it. `done` follows when it is withdrawn and given back."""

    fd: int
    done: Callable[[], None]
    at: int = 0
    holders: dict[int, int] = field(default_factory=dict)  # connection → how often it has it
    withdrawn: bool = False
    #: Since it was withdrawn: whether both sides compared counts, and holders were asked for it.
    compared: bool = False
    recalled: bool = False


class Lender:
    """Lends segments by their keys.

    `fd` can be read when `turn` has something to do.

    Args:
        name: of the abstract socket, unique on the host and not to be guessed.
        missing: called with key and hint when a borrower wants what is not here. `offer` or `deny`
            with that key answers it. Without `missing`, the answer is that there is none.

    Raises:
        OSError: the system gives no socket.
    """

    def __init__(self, name: str, missing: Callable[[bytes, bytes], None] | None = None) -> None:
        self.address = f"{ADDRESS}{name}"
        self._missing = missing
        self._items: dict[bytes, _Item] = {}
        self._waiting: dict[bytes, list[int]] = {}
        self._peers: dict[int, socket.socket] = {}
        # What a borrower that does not read just now is still to get.
        self._unsent: dict[int, deque[tuple[bytes, int | None]]] = {}
        self._epoll = select.epoll()
        self._shut = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.setblocking(False)
            self._listener.bind("\0" + self.address)
            self._listener.listen(_BACKLOG)
        except BaseException:
            self._listener.close()
            self._epoll.close()
            raise
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self.fd = self._epoll.fileno()

    def __contains__(self, key: bytes) -> bool:
        item = self._items.get(key)
        return item is not None and not item.withdrawn

    def offer(self, key: bytes, fd: int, done: Callable[[], None], at: int = 0) -> None:
        """Lend the segment `at` bytes into `fd`, which stays open until `done` is called."""
        self._items[key] = _Item(fd, done, at)
        for peer in self._waiting.pop(key, ()):
            self._give(peer, key)

    def deny(self, key: bytes) -> None:
        """Answer those who wait for this key: there is no such segment."""
        for peer in self._waiting.pop(key, ()):
            self._say(peer, NONE + key)

    def withdraw(self, key: bytes, *, tell: bool = False) -> None:
        """Lend it no more; `tell` those who have it to let go. `done` follows when all have."""
        item = self._items.get(key)
        if item is None or item.withdrawn:
            return
        item.withdrawn = True
        if tell:
            for peer in list(item.holders):
                self._say(peer, DROP + key)
        self._settle(key, item)

    def recall(self) -> None:
        """Ask for all that is withdrawn and still lent: memory is short here."""
        for key, item in self._items.items():
            if item.withdrawn and not item.recalled:
                item.recalled = True
                for peer in item.holders:
                    self._say(peer, DROP + key)

    def compare(self) -> None:
        """Ask the borrowers for what should long be back. To be called now and then."""
        self._open_door()
        overdue: dict[int, list[bytes]] = {}
        for key, item in self._items.items():
            if item.withdrawn and item.compared:
                for peer in item.holders:
                    overdue.setdefault(peer, []).append(key)
            item.compared = item.withdrawn
        for peer, keys in overdue.items():
            for at in range(0, len(keys), _KEYS):
                self._say(peer, COMPARE + b"".join(keys[at : at + _KEYS]))

    def turn(self) -> None:
        """Serve what has come."""
        for fd, events in self._epoll.poll(0):
            if fd == self._listener.fileno():
                self._accept()
                continue
            if events & select.EPOLLOUT:
                self._catch_up(fd)
            if fd in self._peers:
                self._serve(fd)

    def close(self) -> None:
        """Lend no more. What is lent stays where it is mapped."""
        for peer in list(self._peers):
            self._part(peer)
        self._shut = False
        self._listener.close()
        self._epoll.close()
        for item in self._items.values():
            item.done()
        self._items.clear()

    def _open_door(self) -> None:
        if self._shut:
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
            self._shut = False

    def _accept(self) -> None:
        try:
            while True:
                peer, _ = self._listener.accept()
                if not is_trusted(user_of(peer)):
                    peer.close()
                    continue
                peer.setblocking(False)
                self._peers[peer.fileno()] = peer
                self._epoll.register(peer.fileno(), select.EPOLLIN)
        except BlockingIOError:
            return  # that was all
        except OSError:
            # No descriptor for it now. It would be told of again at once, without end.
            self._epoll.unregister(self._listener.fileno())
            self._shut = True

    def _serve(self, fd: int) -> None:
        peer = self._peers[fd]
        while fd in self._peers:
            try:
                packet = peer.recv(PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            kind, key, hint = packet[:1], packet[1 : 1 + KEY_BYTES], packet[1 + KEY_BYTES :]
            if kind == GIVE and len(key) == KEY_BYTES:
                self._wanted(fd, key, hint)
            elif kind == RETURN:
                self._returned(fd, key)
            elif kind == ABSENT:
                for at in range(1, len(packet), KEY_BYTES):
                    self._absent(fd, packet[at : at + KEY_BYTES])
            else:  # it has left, or talks nonsense
                self._part(fd)

    def _wanted(self, peer: int, key: bytes, hint: bytes) -> None:
        if key in self:
            self._give(peer, key)
        elif self._missing is None:
            self._say(peer, NONE + key)
        else:
            waiting = self._waiting.setdefault(key, [])
            waiting.append(peer)
            if len(waiting) == 1:
                self._missing(key, hint)

    def _give(self, peer: int, key: bytes) -> None:
        if peer in self._peers:
            item = self._items[key]
            item.holders[peer] = item.holders.get(peer, 0) + 1
            self._say(peer, HERE + key + AT.pack(item.at), item.fd)

    def _say(self, peer: int, packet: bytes, fd: int | None = None) -> None:
        if peer in self._unsent:
            self._unsent[peer].append((packet, fd))
        elif peer in self._peers and not self._send(peer, packet, fd):
            self._unsent[peer] = deque([(packet, fd)])
            self._epoll.modify(peer, select.EPOLLIN | select.EPOLLOUT)

    def _send(self, peer: int, packet: bytes, fd: int | None) -> bool:
        """Send one packet; false if the borrower has to read first."""
        rights = (
            []
            if fd is None
            else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]).tobytes())]
        )
        try:
            self._peers[peer].sendmsg([packet], rights)
        except BlockingIOError:
            return False
        except OSError:
            # Its end of the connection is closed, which reading will tell too. Or the system does not
            # pass another descriptor just now, and the borrower finds none in what it gets.
            with contextlib.suppress(OSError):
                self._peers[peer].send(packet)
        return True

    def _catch_up(self, peer: int) -> None:
        unsaid = self._unsent.get(peer, deque())
        while unsaid and self._send(peer, *unsaid[0]):
            unsaid.popleft()
        if not unsaid and self._unsent.pop(peer, None) is not None:
            self._epoll.modify(peer, select.EPOLLIN)

    def _returned(self, peer: int, key: bytes) -> None:
        item = self._items.get(key)
        if item is None or peer not in item.holders:
            return
        item.holders[peer] -= 1
        if not item.holders[peer]:
            del item.holders[peer]
            self._settle(key, item)

    def _absent(self, peer: int, key: bytes) -> None:
        item = self._items.get(key)
        if item is not None and item.withdrawn and item.holders.pop(peer, 0):
            self._settle(key, item)

    def _settle(self, key: bytes, item: _Item) -> None:
        if item.withdrawn and not item.holders and self._items.pop(key, None) is not None:
            item.done()

    def _part(self, peer: int) -> None:
        """A borrower has left, and with it whatever it had."""
        connection = self._peers.pop(peer)
        self._open_door()
        self._unsent.pop(peer, None)
        self._epoll.unregister(peer)
        connection.close()
        for key, waiting in list(self._waiting.items()):
            self._waiting[key] = [other for other in waiting if other != peer]
        for key, item in list(self._items.items()):
            if item.holders.pop(peer, 0):
                self._settle(key, item)
