"""Has the I/O thread's poller watch the descriptors of the present link, and of no link that is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands._io.poller import IN, OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from manyhands._io.poller import Poller
    from manyhands_shared.transport.link.connector import Connector


class LinkPolling:
    """What the poller watches for the link. It refers to no connector, which may refer to it.

    Args:
        poller: the I/O thread's.
        expel: has callers leave the poller to the I/O thread.
    """

    def __init__(self, poller: Poller, expel: Callable[[], None]) -> None:
        self._poller = poller
        self._expel = expel
        self._polled: frozenset[int] = frozenset()
        self._polls_out = False

    def follows(self, connector: Connector) -> bool:
        """Whether the poller watches the link as it is now."""
        return connector.descriptors is self._polled and connector.polls_out is self._polls_out

    def ready(self, ready: Mapping[Any, int]) -> list[int]:
        """The descriptors of the link that are among those that are ready."""
        return [descriptor for descriptor in self._polled if descriptor in ready]

    def poll(self, connector: Connector) -> None:
        """Have the poller watch the link as it is now."""
        self.stop()
        self._polled, self._polls_out = connector.descriptors, connector.polls_out
        events = IN | OUT if self._polls_out else IN
        for descriptor in self._polled:
            self._poller.register(descriptor, events)

    def stop(self) -> None:
        """Watch no link. Called while the descriptors are still open."""
        self._expel()
        for descriptor in self._polled:
            self._poller.unregister(descriptor)
        self._polled = frozenset()
