"""A link between a node and the broker of its own process: messages change hands as they are.

Nothing is encoded, so nothing is checked either: both ends are ours. No descriptor tells. The loop that
turns both ends asks `InProcessHub.mail`, and lets the node turn while its link has something `pending`.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import replace

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Message, ResultGroup, Results
from manyhands_shared.transport.link.base import Link, LinkEvent

_OWN = {bytes}


class InProcessHub:
    """Where the links of one node meet its broker, one link at a time."""

    def __init__(self) -> None:
        #: For the broker: the peer of a link, and its message, or `None` when the link has ended.
        self.mail: deque[tuple[bytes, Message | None]] = deque()
        self._link: InProcessLink | None = None

    def connect(self) -> Link:
        """A new link; the one before has been closed."""
        self._link = InProcessLink(self)
        return self._link

    def send(self, peer: bytes, message: Message) -> bool:
        """Give the node a message; false if that is not the peer of its link."""
        link = self._link
        if link is None or link.peer != peer:
            return False
        link.inbox.append(message)
        return True

    def part(self, link: InProcessLink) -> None:
        """The node has closed a link."""
        if self._link is link:
            self._link = None
            self.mail.append((link.peer, None))

    @property
    def pending(self) -> bool:
        """Whether the node has something to take."""
        return self._link is not None and self._link.pending()


class InProcessLink(Link):
    """See `Link`, and the module. It is up at once."""

    congested = False

    def __init__(self, hub: InProcessHub) -> None:
        self.peer = os.urandom(16)
        self.inbox: deque[Message] = deque()
        self._hub = hub
        self._told = False
        self.deadline = 0.0  # it is up in the very turn in which it is made

    def pending(self) -> bool:
        return not self._told or bool(self.inbox)

    def event(self, now: float) -> LinkEvent | None:  # noqa: ARG002 - it has no deadline
        if self._told:
            return None
        self._told, self.deadline = True, None
        return LinkEvent.UP

    def send(self, message: Message) -> None:
        if type(message) is Results:
            message = _copied(message)
        self._hub.mail.append((self.peer, message))

    def drain(self) -> None:
        pass

    def close(self, *, flush: bool = False) -> None:  # noqa: ARG002 - all is sent already
        self._hub.part(self)

    def disown(self) -> None:
        pass

    def receive(self) -> list[Message]:
        messages = list(self.inbox)
        self.inbox.clear()
        return messages


def _copied(results: Results) -> Results:
    """The same, with nothing in it that lies in memory which the node will use again."""
    if all(_is_owned(group) for group in results.groups):
        return results
    return replace(results, groups=[_copied_group(group) for group in results.groups])


def _is_owned(group: ResultGroup) -> bool:
    return set(map(type, group.bodies)) <= _OWN


def _copied_group(group: ResultGroup) -> ResultGroup:
    return replace(group, bodies=[_copied_body(body) for body in group.bodies])


def _copied_body(body: Payload) -> Payload:
    return body if isinstance(body, bytes) else tuple(bytes(buffer) for buffer in body)
