"""Has a selector watch the descriptors of the present link to the broker, and of none that is gone."""

from __future__ import annotations

import selectors
from functools import partial
from typing import Any

from manyhands_shared.transport.link.connector import Connector


class LinkRegistration:
    """Wakes the connector when a descriptor of its link is ready. It belongs to the loop's thread.

    Args:
        selector: the loop's; its data are called with what is ready.
        connector: keeps the link.
    """

    def __init__(self, selector: selectors.BaseSelector, connector: Connector) -> None:
        self._selector = selector
        self._connector = connector
        self._watched: frozenset[int] = frozenset()
        self._polls_out = False

    def turn(self) -> None:
        """Watch the present link as it is now."""
        connector = self._connector
        link = connector.link
        if link and link.descriptors is self._watched and link.polls_out is self._polls_out:
            return
        for descriptor in self._watched:
            self._selector.unregister(descriptor)
        self._watched, self._polls_out = connector.descriptors, connector.polls_out
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._polls_out else 0)
        for descriptor in self._watched:
            self._selector.register(descriptor, wanted, partial(self._wake, descriptor))

    def _wake(self, descriptor: int, _: Any) -> None:
        self._connector.wake(descriptor)
