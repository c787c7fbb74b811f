"""The root of the program: it makes the objects, starts processes, waits for them, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands_shared.coordination.kinds import Kind, Operation, Outcome
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from simulation.coordination.member import LOCKS, QUEUE, RUSH_SECONDS, Member, flat
from simulation.coordination.numbers import BYTES, ITEM, SEGMENT, Numbers
from simulation.coordination.pipes import Pipe

if TYPE_CHECKING:
    from simulation.coordination.host import Agent, Host
    from simulation.coordination.world import World

_SECONDS = (0.05, 0.05, 0.5, 0.5, 2.0, 4.0, 16.0)


class Root(Member):
    """The program's first process: it makes the objects, starts processes, waits for them, and ends."""

    is_root = True

    def __init__(self, world: World, host: Host) -> None:
        super().__init__(world, world.new_id(), None)
        self.host = host
        self.over = False
        #: How far the output of each process has come.
        self._shown: dict[bytes, int] = {}
        self.expected: dict[bytes, int | None] = {}
        self._to_start = world.random.randint(3, 8)
        self._locks = world.random.choice((1, 2))
        #: Whether the program has shared memory, and pipes: most events are about these.
        self._has_memory, self._has_pipes = (world.random.random() < 0.4 for _ in range(2))
        self._registered = self._began = False
        #: Of the program's memory, which it has made.
        self._segment: int | None = None
        #: Pipes that have not ended, by the process that writes; and the processes that were given one.
        self._pipes: dict[bytes, Pipe] = {}
        self._given: set[bytes] = set()
        self._memory = memoryview(b"")

    def begin(self) -> None:
        """Reach the agent of its host, over and over if it dies."""
        self._attach()

    def _attach(self) -> None:
        from simulation.coordination.world import MEMBER_KEY

        if not self.alive:
            return
        self.host.agent_wanted()
        agent = self.host.agent
        if agent is None or not agent.alive:
            self._world.after(0.3, self._attach)
            return
        self.agent = agent
        info = {"goes_on": self._began}
        agent.accept(self, c.Program(self.program, self.id, self.host.name, MEMBER_KEY, info))
        # What the agent before did not answer is asked again, before anything new.
        for request in list(self._asked.values()):
            self._relay(request)

    def lost_agent(self) -> None:
        """Its agent died; it lives on and looks for the next."""
        if self.host.up:
            self.agent, self._registered = None, False
            self._world.after(0.3, self._attach)

    def _take(self, message: m.Message) -> None:
        match message:
            case c.Placed(member, _, _, error) if member == self.id:
                if error and self._began:
                    self.die(1)
                elif not error and not self._registered:
                    self._registered = self._began = True
                    self._make_objects()
            case c.Placed(member, _, _, error) if error and member in self.expected:
                self._ended(member, 1)
            case c.Ended(member) if member == self.id:
                # The program was ended for it; whatever it does now raises, and so does what waits.
                self.die(1)
            case c.ProcessOutput():
                self._show(message)
            case c.Ended(member, code, _) if member in self.expected:
                self._relay(c.ExitAcknowledged(member))
                self._ended(member, code)
            case _:
                super()._take(message)

    def _show(self, message: c.ProcessOutput) -> None:
        """Write what a process elsewhere has written, as the client's printer does."""
        if message.at == c.NOTE_AT:
            return
        data = b"".join(map(flat, message.bodies))
        until = self._shown.get(message.member, message.at)
        if message.at + len(data) > until:
            self._world.checker.shown(message.member, data[max(0, until - message.at) :])
            until = self._shown[message.member] = message.at + len(data)
        self._relay(c.OutputTaken(message.member, message.stream, until))

    def _make_objects(self) -> None:
        for key in LOCKS:
            self.tell(Operation.CREATE, key, [int(Kind.LOCK), [], ""])
        self.tell(Operation.CREATE, QUEUE, [int(Kind.QUEUE), [0], ""])
        if self._has_memory:
            self._make_memory()
        for member, code in self.expected.items():
            if code is None:
                self._start(member)
        self.step(0.1, self._start_one)
        self._look()

    def _make_memory(self) -> None:
        assert self.agent is not None
        memories = self.agent.memories
        if self._segment is None:
            self._segment = memories.new_descriptor()
            self._memory = memories.adopt(self._segment, BYTES).memory
        self.agent.relay(self, c.Map(self.program, SEGMENT, 0, BYTES, ITEM), self._segment)

    def _start_one(self) -> None:
        if self._to_start and self.agent is not None:
            self._to_start -= 1
            member = self._world.new_id()
            self.expected[member] = None
            self._start(member)
            self.step(self._world.random.random() * 2.0, self._start_one)

    def _start(self, member: bytes) -> None:
        random = self._world.random
        kinds = ("lock", "lock", "lock", "lock", "often", "rush", "put", "get")
        script: list[list[Any]] = []
        for _ in range(random.randint(1, 15)):
            what, seconds = random.choice(kinds), random.choice(_SECONDS)
            which = random.randrange(self._locks)
            # Often enough to have the lock delegated, and to go on with it then.
            if what in ("often", "rush"):
                script += [["lock", 0.05 if what == "often" else RUSH_SECONDS, which]] * 12
            else:
                script.append([what, seconds, which])
        options: dict[str, Any] = {"name": "p", "script": script, "memory": self._has_memory}
        if self._has_pipes and self.agent is not None and member not in self._given:
            options["end"] = [self._deposit(member, self.agent), self.agent.id]
        self._relay(c.Start(member, self.id, self.program, options, b"", [b"work", b""]))

    def _deposit(self, member: bytes, agent: Agent) -> bytes:
        """Leave the writing end of a pipe with the agent, for a process; return its name."""

        def changed() -> None:
            data, pipe.data = bytes(pipe.data), bytearray()
            pipes = self._world.checker.pipes
            pipes.read(member, data)
            if not pipe.writers and self._pipes.get(member) is pipe:
                del self._pipes[member]
                pipes.ended(member, agent)
                self.step(0.0, self._look)

        pipe, end = Pipe(changed), self._world.new_id()
        self._pipes[member] = pipe
        self._given.add(member)
        number = self._world.files.open(pipe)
        agent.relay(self, c.Deposit(end, self.id, member, c.SENDS, False), number)
        return end

    def _ended(self, member: bytes, code: int) -> None:
        if self.expected.get(member) is None:
            self.expected[member] = code
            self._world.checker.end_known(member, code)
            self._world.tell(self, "knows that {} ended with {}", member[-1], code)
        self._look()

    def _look(self) -> None:
        """Whether all is done."""
        if not (self._to_start or self._pipes or None in self.expected.values()):
            self._drain()

    def _drain(self) -> None:
        """Take what is left in the queue; then end."""
        if self.over or not self.alive:
            return
        self.ask(Operation.GET, QUEUE, [False, None], self._drained)

    def _drained(self, answer: c.Response | None) -> None:
        if answer is not None and answer.outcome == Outcome.OK:
            self._world.checker.got(self, flat(answer.bodies[0]))
            self._drain()
        else:
            if answer is not None and answer.outcome == Outcome.NO and self._memory:
                self._world.checker.counter.found(self, Numbers(self._memory, self.id).counter)
            self._world.checker.drained = answer is not None and answer.outcome == Outcome.NO
            self.die(0)

    def die(self, code: int) -> None:
        """It ends, and the program with it."""
        super().die(code)
        self.over = True
