"""The broker's side of the dashboard: it answers what the HTTP process asks, for the holder of a key."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core import Core
from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_broker.http.admission.access import GUEST

#: Sees what everybody may see, and orders nothing.
_GUEST = Identity(name=GUEST, role="client")


class Board:
    """Answers as the broker's loop.

    Args:
        core: the scheduler.
        keyed: whether the broker has keys; without, every visitor may do everything.
    """

    def __init__(self, core: Core, *, keyed: bool) -> None:
        self._core = core
        self._keyed = keyed

    def answer(self, kind: str, what: str, arguments: dict[str, Any], key: str) -> Any:
        """Return a view's data, or what became of an order.

        Raises:
            LookupError: there is none, or the visitor's key does not allow it; the text says which.
        """
        who = self._who(key)
        if kind == "view":
            return self._core.view(what, arguments, who)
        return self._core.order(what, arguments, who)

    def _who(self, key: str) -> Identity:
        if not key:
            return _GUEST if self._keyed else ANYBODY
        if key == GUEST:
            return _GUEST
        who = self._core.state.ledgers.known(key)
        if who is None:
            raise LookupError("the key of this token was revoked; run `manyhands dashboard` again")
        return who
