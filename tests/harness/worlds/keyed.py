"""The scheduler with peers that come by keys of their own."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from harness.worlds.broker import World
from manyhands_broker.core import Drained, Identity, Limits, Received
from manyhands_shared.protocol import messages as m


def key(name: str, role: str = "client", priority: int = 0) -> Identity:
    """The identity that a broker has of such a key."""
    return Identity(blake2b(name.encode(), digest_size=32).hexdigest(), name, role, priority)


class KeyedWorld(World):
    """Each peer has said by which key it comes; those that have not come without."""

    def __init__(self, **limits: Any) -> None:
        self.keys: dict[bytes, Identity] = {}
        super().__init__(Limits(lease=10.0, session_grace=60.0, **limits))

    def say(self, peer: bytes, *messages: m.Message) -> list[Any]:
        """Have a peer say something in one turn of the loop; what it hears."""
        who = self.keys.get(peer, Identity())
        for message in messages:
            self.do(self.core.handle(Received(peer, message, who), self.now))
        self.do(self.core.handle(Drained(), self.now))
        self.core.validate()
        return self.hear(peer)

    def hear(self, peer: bytes) -> list[Any]:
        """What a peer has heard since it was last asked, but for tasks, which `assigned` tells."""
        heard = self.inbox.get(peer, [])
        self.inbox[peer] = [message for message in heard if isinstance(message, m.Assign)]
        return heard

    def join(self, peer: bytes, who: Identity, **info: Any) -> list[Any]:
        """Open a session by a key."""
        self.keys[peer] = who
        return self.say(peer, m.ClientHello(1, peer.ljust(16, b"."), peer.decode(), 0, 0, info))

    def work(self, peer: bytes, who: Identity, slots: int = 1, **info: Any) -> list[Any]:
        """Bring a node in by a key."""
        self.keys[peer] = who
        hello = m.WorkerHello(1, peer.decode(), peer.ljust(16, b"_"), slots, 1_000, [], info)
        return self.say(peer, hello)


def function(body: bytes = b"code") -> m.Function:
    """A function by its true digest."""
    return m.Function(blake2b(body, digest_size=16).digest(), "f", [body])


def submit(
    job: str,
    bodies: list[Any],
    digest: bytes | None = None,
    *,
    first: int = 0,
    closed: bool = True,
    **options: Any,
) -> m.Submit:
    """Tasks of a job of `function`, unless it is another's digest."""
    group = m.SubmitGroup(job, digest or function().digest, options, first, closed, bodies)
    return m.Submit([group])
