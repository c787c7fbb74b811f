"""What must hold in every run, whatever goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c

if TYPE_CHECKING:
    from simulation.coordination.member import Member
    from simulation.coordination.world import World


class Checker:
    """Watches a run from outside."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._started: set[bytes] = set()
        #: Lock → who is in it, and the highest epoch that a holder was told.
        self._holders: dict[bytes, dict[Member, None]] = {}
        self._epochs: dict[bytes, int] = {}
        self._killed: set[bytes] = set()
        #: Item → who put it; who got it; to whom the broker sent it.
        self._put: dict[bytes, Member] = {}
        self._got: dict[bytes, list[Member]] = {}
        self._sent_to: dict[bytes, set[bytes]] = {}
        #: Whether the root has emptied the queue behind all others.
        self.drained = False

    # What is seen

    def started(self, member: bytes) -> None:
        """An agent forks a process."""
        assert member not in self._started, f"process {member[-1]} is started twice"
        self._started.add(member)

    def acquired(self, member: Member, key: bytes, epoch: int) -> None:
        """A member goes on with a lock."""
        holders = self._holders.setdefault(key, {})
        others = [one for one in holders if one.runs and one is not member]
        assert not others, f"{member} holds {key!r}, and so does {others[0]}"
        assert epoch >= self._epochs.get(key, 0), f"the fence of {key!r} fell to {epoch}"
        self._epochs[key] = epoch
        holders[member] = None
        self._world.tell(member, "has {}", key)

    def released(self, member: Member, key: bytes) -> None:
        """A member lets go of a lock."""
        others = [one for one in self._holders[key] if one.runs and one is not member]
        assert not others, f"{member} has held {key!r}, and so does {others[0]}"
        del self._holders[key][member]

    def died(self, member: Member, *, killed: bool) -> None:
        """A process has ended."""
        for holders in self._holders.values():
            holders.pop(member, None)
        if killed:
            self._killed.add(member.id)

    def put(self, member: Member, item: bytes) -> None:
        """A member puts an item."""
        self._put[item] = member

    def got(self, member: Member, item: bytes) -> None:
        """A member goes on with an item."""
        before = self._got.setdefault(item, [])
        twice = [one for one in before if one.id not in self._killed]
        assert not twice, f"{member} gets an item that {twice[0]} has got"
        before.append(member)

    def broker_said(self, message: m.Message) -> None:
        """The broker sends something."""
        if isinstance(message, c.Response) and message.bodies:
            item = bytes(message.bodies[0])  # type: ignore[arg-type]
            self._sent_to.setdefault(item, set()).add(message.member)

    # What must be

    def judge(self) -> None:
        """Every wait has ended, every process too, and nothing is left of the program."""
        world = self._world
        root = world.root
        waits = [one for host in world.hosts if host.agent for one in host.agent.members.values()]
        assert root.over, f"the root waits for ever; there are {waits}"
        assert not waits, f"{waits} outlive the program"
        coordinator = world.broker.coordinator
        coordinator.validate()
        state = coordinator.state
        left = [*state.programs, *state.members, *state.awaiting]
        assert not left, f"the broker has {left} left"
        assert not world.broker.log, f"the log has {sorted(world.broker.log)} left"
        assert not state.used_bytes, f"{state.used_bytes} bytes are counted and of nothing"
        if self.drained:
            self._judge_items()

    def _judge_items(self) -> None:
        for item, producer in self._put.items():
            dead = self._sent_to.get(item, set()) & self._killed
            excused = dead or producer.id in self._killed
            assert item in self._got or excused, f"an item that {producer} put is lost"
