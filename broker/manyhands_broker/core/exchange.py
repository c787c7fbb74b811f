"""Stored values on their way from the client that keeps them to nodes that cannot borrow them.

The broker keeps none. It knows which nodes wait for one, asks the client once, and passes the answer
on to all of them; and which nodes have one, so that it can tell them when it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from manyhands_broker.core.book import Book
from manyhands_broker.core.node import Node
from manyhands_broker.core.session import Session
from manyhands_shared.messages import Stock, Want
from manyhands_shared.stored import public_name


@dataclass(slots=True)
class _Item:
    """A value of a session: who waits for it, and who has it."""

    owner: bytes
    waiting: dict[Node, None] = field(default_factory=dict)
    holders: dict[Node, None] = field(default_factory=dict)


class Exchange:
    """What nodes asked for, by key."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._items: dict[bytes, _Item] = {}
        self._sessions: dict[bytes, Session] = {}

    def opened(self, session: Session) -> None:
        """A session is open, over its first link or a later one: ask it for what nodes wait for."""
        owner = public_name(session.token)
        self._sessions[owner] = session
        for key, item in self._items.items():
            if item.owner == owner and item.waiting:
                self._book.send(session.peer, Want(key, owner))

    def ended(self, session: Session) -> None:
        """A session is forgotten, and what it kept is gone."""
        owner = public_name(session.token)
        if self._sessions.get(owner) is session:
            del self._sessions[owner]
            for key in [key for key, item in self._items.items() if item.owner == owner]:
                self._gone(key)

    def wanted(self, node: Node, want: Want) -> None:
        """A node needs a value."""
        session = self._sessions.get(want.owner)
        young = self._book.now - self._book.started < self._book.limits.session_grace
        if session is None and not young:  # else it may come back, from before the broker's start
            self._book.send(node.peer, Stock(want.key, []))
            return
        item = self._items.setdefault(want.key, _Item(want.owner))
        asked = bool(item.waiting)
        item.waiting[node] = None
        if session is not None and not asked:
            self._book.send(session.peer, want)

    def stocked(self, session: Session, stock: Stock) -> None:
        """A client sends a value, or says that it is gone."""
        item = self._items.get(stock.key)
        if item is None or item.owner != public_name(session.token):
            self._book.counters["unexpected_messages"] += 1
        elif not stock.bodies:
            self._gone(stock.key)
        else:
            for node in item.waiting:
                self._book.send(node.peer, stock)
            item.holders |= item.waiting
            item.waiting.clear()

    def left(self, node: Node) -> None:
        """A node is gone."""
        for key, item in list(self._items.items()):
            item.waiting.pop(node, None)
            item.holders.pop(node, None)
            if not (item.waiting or item.holders):
                del self._items[key]

    def give_up(self) -> None:
        """Sessions that have not come back by now do not come."""
        for key in [key for key, item in self._items.items() if item.owner not in self._sessions]:
            self._gone(key)

    def _gone(self, key: bytes) -> None:
        item = self._items.pop(key)
        for node in {**item.waiting, **item.holders}:
            self._book.send(node.peer, Stock(key, []))
