"""Stored values of clients, as the node has them: each once, for all its children.

A child that unpickles an argument asks the node's lender for the segment (see `payloads.refs`). The
node borrows what is not here from the client, where that runs on this host. Else it asks for the value
through the broker and keeps it in a segment of its own. Either stays until its client says that it is
gone. Of those that came through the broker, the oldest go when they take too much room, and come again.
"""

from __future__ import annotations

import mmap
import os
import selectors
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import msgpack

from manyhands_shared import shm
from manyhands_shared.payloads.payload import Buffer, Payload
from manyhands_worker.core import events
from manyhands_worker.host.cgroup import usable_memory
from manyhands_worker.values.file_descriptors import Files

#: The part of the node's memory that values from the broker may take.
_SHARE = 4


class InputStore:
    """The node's side.

    Args:
        name: of the lender, unique on the host.
        selector: where descriptors are registered; each key's `data` is to be called.
        tell: takes what the core has to know.

    Raises:
        OSError: the system gives no descriptor.
    """

    def __init__(
        self, name: str, selector: selectors.BaseSelector, tell: Callable[[events.Event], None]
    ) -> None:
        #: Lends stored values to the children, and results to clients.
        self.lender = lender = shm.Lender(name, self._missing)
        self._tell = tell
        self._borrower = shm.Borrower(self._recalled)
        self._owners: dict[bytes, bytes] = {}  # of what was asked for and has not come
        self._borrowed: dict[str, set[bytes]] = {}
        self._files = Files()
        self._stock: OrderedDict[bytes, int] = OrderedDict()
        self._room = usable_memory() // _SHARE
        selector.register(lender.fd, selectors.EVENT_READ, lambda _: lender.turn())
        selector.register(self._borrower.fd, selectors.EVENT_READ, lambda _: self._turn())

    def _missing(self, key: bytes, hint: bytes) -> None:
        """A child asks for what is not here."""
        try:
            host, lender, owner = msgpack.unpackb(hint, raw=False)
            if not (type(host) is type(lender) is str and type(owner) is bytes):
                raise TypeError("of other types")
        except Exception:  # noqa: BLE001 - whatever msgpack raises, it is no hint
            self.lender.deny(key)
            return
        self._owners[key] = owner
        if host == shm.host_id():
            self._borrower.ask(lender, key)
            if self._borrower.pending:
                self._turn()
        else:
            self._tell(events.Wanted(key, owner))

    def _turn(self) -> None:
        """Take what has come from clients on this host."""
        for lender, key, found in self._borrower.turn():
            owner = self._owners.pop(key, b"")
            if found is None:  # as far as can be told from here; the broker may know better
                self._owners[key] = owner
                self._tell(events.Wanted(key, owner))
                continue
            self._borrowed.setdefault(lender, set()).add(key)
            give_back = self._borrower.returning(lender, key)
            fd, at = found
            shared, done = self._files.take(fd)
            self.lender.offer(key, shared, partial(_finish, done, give_back), at)
            self._tell(events.Arrived(key))

    def supply(self, key: bytes, bodies: list[Payload]) -> None:
        """What the broker says of a value: here it is, or without a body: it is gone."""
        self._owners.pop(key, None)
        if not bodies:
            self._drop(key)
            self.lender.deny(key)
            self._tell(events.Arrived(key))
            return
        if key in self.lender:
            return
        parts = [memoryview(part).cast("B") for part in _parts(bodies[0])]
        size = shm.span(part.nbytes for part in parts)
        while self._stock and sum(self._stock.values()) + size > self._room:
            self._drop(next(iter(self._stock)))
        try:
            fd = shm.new_segment(size)
        except OSError:
            self.lender.deny(key)
            self._tell(events.Arrived(key))
            return
        with mmap.mmap(fd, size) as memory, memoryview(memory) as view:
            shm.lay(view, parts)
        self._stock[key] = size
        self.lender.offer(key, fd, lambda: os.close(fd))
        self._tell(events.Arrived(key))

    def close(self) -> None:
        """Lend no more, and give everything back."""
        self.lender.close()
        self._borrower.close()

    def _drop(self, key: bytes) -> None:
        self._stock.pop(key, None)
        self.lender.withdraw(key)

    def _recalled(self, lender: str, key: bytes | None) -> None:
        """A client lets go of a value, or is gone."""
        borrowed = self._borrowed.get(lender, set())
        for gone in [key] if key is not None else list(borrowed):
            borrowed.discard(gone)
            self.lender.withdraw(gone)
        if not borrowed:
            self._borrowed.pop(lender, None)


def _finish(done: Callable[[], None], give_back: Callable[[], None]) -> None:
    done()
    give_back()


def _parts(body: Payload) -> tuple[Buffer, ...]:
    return body if isinstance(body, tuple) else (body,)
