"""The broker's side of the dashboard: it answers what the HTTP process asks, for the holder of a key.

What a node is asked is answered later. The HTTP process gets a ticket for it, and asks with that again.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from manyhands_broker.core import Core
from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_broker.http.admission.access import GUEST

#: Sees what everybody may see, and orders nothing.
_GUEST = Identity(name=GUEST, role="client")
#: Tickets that hold at a time, and characters of answers that wait for theirs.
_MOST_TICKETS = 256
_MOST_CHARS = 32 << 20


class InquiryHandler:
    """Answers as the broker's loop.

    Args:
        core: the scheduler.
        keyed: whether the broker has keys; without, every visitor may do everything.
    """

    def __init__(self, core: Core, *, keyed: bool) -> None:
        self._core = core
        self._keyed = keyed
        self._numbers = count(1)
        #: Ticket → why there is no answer, the answer, its characters; `None` while a node is asked.
        self._tickets: dict[int, tuple[str, Any, int] | None] = {}

    def answer(self, kind: str, what: str, arguments: dict[str, Any], key: str) -> Any:
        """Return a view's data, what became of an order, or a ticket for what a node is asked.

        Raises:
            LookupError: there is none, or the visitor's key does not allow it; the text says which.
        """
        who = self._who(key)
        if kind == "view":
            return self._core.view(what, arguments, who)
        if kind == "inspect":
            return self._inspect(what, arguments, who)
        if kind == "inspected":
            return self._inspected(arguments["ticket"])
        return self._core.order(what, arguments, who)

    def _inspect(self, what: str, arguments: dict[str, Any], who: Identity) -> dict[str, int]:
        ticket = next(self._numbers)
        self._tickets[ticket] = None
        if len(self._tickets) > _MOST_TICKETS:
            # Left behind by an HTTP process that has ended.
            del self._tickets[next(iter(self._tickets))]

        def tell(error: str, found: Any) -> None:
            if ticket not in self._tickets:
                return
            size = 0 if error or what == "nodes_of" else _chars(found)
            if size + sum(one[2] for one in self._tickets.values() if one) > _MOST_CHARS:
                error, found, size = "too many answers of nodes wait to be shown", None, 0
            self._tickets[ticket] = error, found, size

        try:
            self._core.inspect(what, arguments, who, tell)
        except LookupError:
            del self._tickets[ticket]
            raise
        return {"ticket": ticket}

    def _inspected(self, ticket: int) -> dict[str, Any]:
        """Return whether a node has answered, and what."""
        if ticket not in self._tickets:
            raise LookupError("the broker has not kept this answer: ask again")
        told = self._tickets[ticket]
        if told is None:
            return {"there": False}
        del self._tickets[ticket]
        error, found, _ = told
        if error:
            raise LookupError(error)
        return {"there": True, "found": found}

    def _who(self, key: str) -> Identity:
        if not key:
            return _GUEST if self._keyed else ANYBODY
        if key == GUEST:
            return _GUEST
        who = self._core.state.ledgers.known(key)
        if who is None:
            raise LookupError("the key of this token was revoked; run `manyhands dashboard` again")
        return who


def _chars(found: dict[str, Any]) -> int:
    return sum(len(one["text"]) for one in found["stacks"])
