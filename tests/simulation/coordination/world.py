"""A simulated world of programs: a broker's coordinator, host agents, members, and what goes wrong.

As in `simulation.world` one seed decides everything, time is a number, and what happens stands in one
heap. The coordinator is the real one. Agents and members are models of what `docs/protocol.md` asks of
them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_shared.coordination.identity import member_key, program_id
from simulation.coordination import faults
from simulation.coordination.broker import Broker
from simulation.coordination.checker import Checker
from simulation.coordination.host import Host
from simulation.coordination.pipes import Files
from simulation.coordination.root import Root

LIMITS = CoordinationLimits(
    lease=5.0, session_grace=15.0, agent_wait=8.0, kill_after=2.0, output_wait=60.0
)
SECRET = b"simulated secret"
PROGRAM, MEMBER_KEY = program_id(SECRET), member_key(SECRET)
#: When nothing goes wrong any more, and by when all is over then.
HEAL, PATIENCE = 40.0, 200.0
_MAX_EVENTS = 300_000


class World:
    """One run.

    Args:
        seed: decides everything.
        harm: the name of a deliberate fault of the software itself; see `broken`.
        tell: is given each line of the story.
    """

    def __init__(
        self, seed: int, harm: str = "", tell: Callable[[str], None] | None = None
    ) -> None:
        self.seed = seed
        self.harm = harm
        self.random = Random(seed)
        self.now = 0.0
        self.healed = False
        self._tell = tell
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = 0
        self._ids = 0
        self.checker = Checker(self)
        self.files = Files()
        self.broker = Broker(self)
        self.hosts = [Host(self, f"h{number}") for number in range(self.random.choice((2, 2, 3)))]
        self.root = Root(self, self.hosts[0])
        self.plan = faults.draw(self.random)

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Have `call()` called once it is `when`."""
        self._ties += 1
        heapq.heappush(self._heap, (when, self._ties, call))

    def after(self, delay: float, call: Callable[[], None]) -> None:
        """Have `call()` called in `delay` seconds."""
        self.at(self.now + delay, call)

    def new_id(self) -> bytes:
        """Return an id that nothing has had."""
        self._ids += 1
        return self._ids.to_bytes(16, "big")

    def tell(self, who: object, what: str, *parts: object) -> None:
        """A line of the story, `what` being a format."""
        if self._tell is not None:
            self._tell(f"{self.now:9.4f} {who}: {what.format(*parts)}")

    def run(self) -> None:
        """The whole run.

        Raises:
            AssertionError: something is not as it must be.
        """
        self.broker.start()
        for host in self.hosts:
            host.start()
        self.root.begin()
        for when, kind in self.plan:
            self.at(when, partial(self._fault, kind))
        self._until(HEAL, lambda: False)
        self.healed = True
        self.tell("world", "is healed")
        for host in self.hosts:
            host.heal()
        self.broker.start()
        self._until(self.now + PATIENCE, self._over)
        self.checker.judge()

    def _over(self) -> bool:
        if not self.root.over or not self.broker.alive or self.broker.coordinator.state.programs:
            return False
        return not any(host.agent.members for host in self.hosts if host.agent is not None)

    def _fault(self, kind: str) -> None:
        if not self.healed:
            self.tell("world", "fault: {}", kind)
            faults.FAULTS[kind](self, self.random)

    def _until(self, deadline: float, done: Callable[[], bool]) -> None:
        turns = 0
        while self._heap and self._heap[0][0] <= deadline and not done():
            when, _, call = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            call()
            turns += 1
            assert turns < _MAX_EVENTS, "it never comes to rest"
        if not done():
            self.now = max(self.now, deadline)
