"""Stored values on their way from the client that keeps them to nodes that cannot borrow them.

The broker stores no value. It knows which nodes wait for one, asks the client once, and passes the
answer on to all of them. Results that tasks have for inputs come to other hosts in the same way, from
the nodes that hold them. It knows which nodes have one, too. It tells them when the value is gone, and
gives tasks to nodes that have what these need (`placement`).
"""

from __future__ import annotations

from collections import Counter

from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.stored_value import StoredValue
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.messages import InputGroup, Ping, Stock, Want
from manyhands_shared.protocol.public_name import public_name

#: Bytes per second at which values are taken to come from clients before any has; and at least.
ASSUMED_RATE, LEAST_RATE = 200e6, 1e6
#: What a transfer costs beside its bytes, in seconds: four messages.
LATENCY = 0.002
#: Seconds after which a node that holds a value is asked for it once more.
ASK_AGAIN = 1.0
#: Values that one node may wait for: more than the tasks that it has can refer to.
MOST_WAITS = 16_384
#: Weight of the newest measurement of the rate.
_NEWEST = 0.3


class ValueRelay:
    """What nodes asked for, and what tasks refer to: by owner, then by key."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._shelves: dict[bytes, dict[bytes, StoredValue[Node]]] = {}
        self._sessions: dict[bytes, Session] = {}
        #: Whose values nodes were asked for that hold them.
        self._asked: dict[tuple[Node, bytes], bytes] = {}
        #: For how many values each node waits.
        self._waits: Counter[Node] = Counter()
        #: Bytes per second from clients to here.
        self.rate = ASSUMED_RATE

    def seconds(self, nbytes: int) -> float:
        """Return how long `nbytes` of values take from their client to a node, if they have to come.

        They come here as a whole first, and only then go on.
        """
        return LATENCY + 2 * nbytes / self.rate if nbytes else 0.0

    def opened(self, session: Session) -> None:
        """Ask a session that has a link, the first or a later one, for what nodes wait for."""
        self.heard(session)
        owner = public_name(session.token)
        self._sessions[owner] = session
        for item in self._shelves.get(owner, {}).values():
            if item.waiting and item.keeper is None:
                self._ask(session, item, Want(item.key, owner))

    def unheard(self, owner: bytes) -> None:
        """Give out nothing that needs values of a session until it speaks: a node waits for some."""
        session = self._sessions.get(owner)
        if session is not None:
            session.unheard = True
            if session.peer is not None:
                self._state.send(session.peer, Ping(0))

    def heard(self, session: Session) -> None:
        """Give out again what needs values of a session: it speaks."""
        if session.unheard:
            session.unheard = False
            for job in session.jobs.values():
                self._state.ready.add(job)

    def ended(self, session: Session) -> None:
        """Tell nodes that the stored values of a session are gone: it is over."""
        owner = public_name(session.token)
        if self._sessions.get(owner) is session:
            del self._sessions[owner]
            self._clear(owner)

    def referred(self, session: Session, group: InputGroup) -> tuple[StoredValue[Node], ...]:
        """Return the values that tasks of a session refer to.

        The caller counts `StoredValue.tasks`.
        """
        shelf = self._shelves.setdefault(public_name(session.token), {})
        keys = [group.keys[at : at + 16] for at in range(0, len(group.keys), 16)]
        found = []
        for key, size in zip(keys, group.sizes, strict=False):
            item = shelf.get(key)
            if item is None:
                item = shelf[key] = StoredValue(key, shelf, host_id=session.host_id)
            item.size = size
            found.append(item)
        return tuple(dict.fromkeys(found))

    def held_result(self, session: Session, key: bytes, size: int, node: Node) -> StoredValue[Node]:
        """Return what a node holds for a session, as a value that tasks refer to."""
        shelf = self._shelves.setdefault(public_name(session.token), {})
        item = shelf.get(key)
        if item is None:
            item = shelf[key] = StoredValue(
                key, shelf, size, node.host_id, node, lambda: self._unused(shelf, key)
            )
        item.comes_to(node)
        return item

    def wanted(self, node: Node, want: Want) -> None:
        """Ask for a value that a node needs: the client that keeps it, or the node that holds it."""
        session = self._sessions.get(want.owner)
        young = self._state.now - self._state.started < self._state.limits.session_grace
        # Soon after the broker's start, the session may still come back from before.
        if session is None and not young:
            self._state.send(node.peer, Stock(want.key, []))
            return
        if self._waits[node] >= MOST_WAITS:
            self._state.counters["refused_wants"] += 1
            self._state.send(node.peer, Stock(want.key, []))
            return
        shelf = self._shelves.setdefault(want.owner, {})
        item = shelf.get(want.key)
        if item is None:
            item = shelf[want.key] = StoredValue(want.key, shelf)
        asked = bool(item.waiting)
        if node not in item.waiting:
            item.waiting[node] = None
            self._waits[node] += 1
        item.comes_to(node)
        if item.keeper is not None:
            # Its link may have been lost with the question.
            if not asked or self._state.now > item.asked_at + ASK_AGAIN:
                self._asked[item.keeper, want.key] = want.owner
                self._ask(item.keeper, item, want)
        elif session is not None and not asked:
            self._ask(session, item, want)

    def stocked(self, session: Session, stock: Stock) -> None:
        """Pass on a value that a client sends, or that it is gone."""
        shelf = self._shelves.get(public_name(session.token), {})
        item = shelf.get(stock.key)
        if item is None or item.keeper is not None:
            self._state.counters["unexpected_messages"] += 1
        else:
            self._stocked(shelf, item, stock)

    def stocked_by(self, node: Node, stock: Stock) -> None:
        """Pass on what a node holds, or that it has let go of it."""
        owner = self._asked.pop((node, stock.key), b"")
        shelf = self._shelves.get(owner, {})
        item = shelf.get(stock.key)
        if item is None or item.keeper is not node:
            self._state.counters["unexpected_messages"] += 1
        else:
            self._stocked(shelf, item, stock)

    def _stocked(
        self, shelf: dict[bytes, StoredValue[Node]], item: StoredValue[Node], stock: Stock
    ) -> None:
        if not stock.bodies:
            self._gone(shelf, item)
        else:
            if item.waiting:
                self._measure(item)
            for node in item.waiting:
                self._state.send(node.peer, stock)
            self._state.counters["values_relayed"] += len(item.waiting)
            item.holders |= item.waiting
            self._waits.subtract(item.waiting.keys())
            item.waiting.clear()
            item.settle()

    def left(self, node: Node) -> None:
        """Forget a node that is gone."""
        self._waits.pop(node, None)
        for shelf in self._shelves.values():
            for item in list(shelf.values()):
                item.leaves(node)
                if item.keeper is node:
                    self._gone(shelf, item)
        for asked in [asked for asked in self._asked if asked[0] is node]:
            del self._asked[asked]

    def give_up(self) -> None:
        """Forget the values of sessions that have not come back by now."""
        for owner in [owner for owner in self._shelves if owner not in self._sessions]:
            self._clear(owner)

    def _ask(self, keeper: Session | Node, item: StoredValue[Node], want: Want) -> None:
        item.asked_at = self._state.now
        self._state.send(keeper.peer, want)

    def _measure(self, item: StoredValue[Node]) -> None:
        seconds = self._state.now - item.asked_at - LATENCY / 2
        if item.size and seconds > 0:
            self.rate += _NEWEST * (item.size / seconds - self.rate)
            self.rate = max(self.rate, LEAST_RATE)

    def _clear(self, owner: bytes) -> None:
        shelf = self._shelves.pop(owner, {})
        for item in list(shelf.values()):
            self._gone(shelf, item)

    def _unused(self, shelf: dict[bytes, StoredValue[Node]], key: bytes) -> None:
        """Have nodes drop their copies of a held result that no task needs any more."""
        item = shelf.get(key)
        if item is not None:
            self._gone(shelf, item)

    def _gone(self, shelf: dict[bytes, StoredValue[Node]], item: StoredValue[Node]) -> None:
        shelf.pop(item.key, None)
        self._waits.subtract(item.waiting.keys())
        for node in {**item.waiting, **item.holders}:
            self._state.send(node.peer, Stock(item.key, []))
