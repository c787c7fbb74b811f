"""What must hold in every run, whatever goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from simulation.coordination.numbers import Counter
from simulation.coordination.pipes import PipeChecker

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
        #: What each process wrote, while its agent lived; and what the root has shown of it.
        self._printed: dict[bytes, bytes] = {}
        self._printers: dict[bytes, Member] = {}
        self._shown: dict[bytes, bytes] = {}
        self.counter = Counter()
        self.pipes = PipeChecker()
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

    def went_on(self, member: Member) -> None:
        """A member that was stopped runs again: what it holds is still its own."""
        for key, holders in self._holders.items():
            others = [one for one in holders if one.runs and one is not member]
            if member in holders:
                assert not others, f"{member} goes on with {key!r}, and {others[0]} has it"

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
        self._got.setdefault(item, []).append(member)

    def broker_said(self, message: m.Message) -> None:
        """The broker sends something."""
        if isinstance(message, c.Response) and message.bodies:
            item = message.bodies[0]
            assert isinstance(item, bytes)
            self._sent_to.setdefault(item, set()).add(message.member)
        elif isinstance(message, c.Shut) and message.way == c.GONE:
            self.pipes.gone.add(message.stream)

    def printed(self, member: Member, line: bytes) -> None:
        """A process writes a line."""
        self._printed[member.id] = self._printed.get(member.id, b"") + line
        self._printers[member.id] = member

    def shown(self, member: bytes, data: bytes) -> None:
        """The root writes what a process has written."""
        self._shown[member] = self._shown.get(member, b"") + data
        whole = self._printed[member].startswith(self._shown[member])
        assert whole, f"the root shows {self._shown[member]!r} of {self._printed[member]!r}"

    def end_known(self, member: bytes, code: int) -> None:
        """The root hears that a process has ended: it has shown all that it can still get."""
        printer = self._printers.get(member)
        if code < 0 or printer is None or printer.agent is None or not printer.agent.alive:
            return
        written, shown = self._printed[member], self._shown.get(member, b"")
        assert written == shown, f"an end comes before output: {written!r}, and only {shown!r}"

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
        left_bytes = state.used_bytes + state.start_bytes
        assert not left_bytes, f"{left_bytes} bytes are counted and of nothing"
        self._judge_items()

    def _judge_items(self) -> None:
        for item, getters in self._got.items():
            # One whose host was lost may have had it before another did.
            living = [one for one in getters if not self._is_lost(one)]
            assert len(living) <= 1, f"{living} have got the same item {item[-1]}"
        for item, producer in self._put.items() if self.drained else ():
            dead = self._sent_to.get(item, set()) & self._killed
            excused = dead or self._is_lost(producer)
            assert item in self._got or excused, f"an item that {producer} put is lost"

    def _is_lost(self, member: Member) -> bool:
        """Whether a member was killed, or its parent was told so: what it said last may be gone."""
        code = self._world.root.expected.get(member.id)
        return member.id in self._killed or (code is not None and code < 0)
