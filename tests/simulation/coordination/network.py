"""Links between host agents and the broker: in order, slow, and gone with all that is on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from manyhands_shared.protocol.messages import Message

if TYPE_CHECKING:
    from simulation.coordination.host import Agent
    from simulation.coordination.world import World


class Link:
    """One connection of one agent."""

    def __init__(self, world: World, near: Agent) -> None:
        self._world = world
        self.near = near
        self.peer = world.new_id()
        #: Whether each end still has it: an end may not know yet that the other has lost it.
        self.near_open = self.far_open = True
        #: Whether nothing passes any more. What a process sent before it died arrives.
        self._cut = False
        self._up = self._down = 0.0
        self._upward: deque[Message] = deque()
        self._downward: deque[Message] = deque()
        #: Nothing arrives before these times, at the broker and at the agent.
        self.up_stalled_until = self.down_stalled_until = 0.0

    def __repr__(self) -> str:
        return f"link {int.from_bytes(self.peer, 'big')} of {self.near}"

    def send_up(self, message: Message) -> None:
        """The agent sends."""
        self._up = self._send(
            self._upward,
            message,
            self._up,
            lambda: self.up_stalled_until,
            lambda: self.far_open,
            lambda said: self._world.broker.take(self, said),
        )

    def send_down(self, message: Message) -> None:
        """The broker sends."""
        self._down = self._send(
            self._downward,
            message,
            self._down,
            lambda: self.down_stalled_until,
            lambda: self.near_open,
            lambda said: self.near.hear(self, said),
        )

    def _send(
        self,
        way: deque[Message],
        message: Message,
        after: float,
        stalled_until: Callable[[], float],
        is_open: Callable[[], bool],
        deliver: Callable[[Message], None],
    ) -> float:
        world = self._world
        way.append(message)

        def arrive() -> None:
            if self._cut or not is_open():
                return
            if world.now < stalled_until():
                world.at(stalled_until(), arrive)
            else:
                # Whichever comes first in time is the first that was sent.
                deliver(way.popleft())

        arrives = max(after, stalled_until(), world.now + world.random.random() ** 3 * 0.02)
        world.at(arrives, arrive)
        return arrives

    def cut(self, near_after: float, far_after: float) -> None:
        """Cut it: what is on the way is lost, and each end notices after a while."""
        self._cut = True
        self.close(near_after, far_after)

    def close(self, near_after: float, far_after: float) -> None:
        """Close it, at the end that notices at once; the other notices behind what is on the way."""
        world = self._world

        def near() -> None:
            if self.near_open:
                self.near_open = False
                self.near.link_lost(self)

        def far() -> None:
            if self.far_open:
                self.far_open = False
                world.broker.link_closed(self)

        if not near_after or not far_after:
            (near if not near_after else far)()
            last = self._down if far_after == 0.0 else self._up
            near_after, far_after = (max(one, last - world.now) for one in (near_after, far_after))
        world.after(near_after, near)
        world.after(far_after, far)
