"""Processes of the program: each works off a script of locks, queues, memory and a pipe."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from simulation.coordination.numbers import SEGMENT, Numbers

if TYPE_CHECKING:
    from simulation.coordination.host import Agent
    from simulation.coordination.world import World

LOCKS = (b"lock-1".ljust(16, b"-"), b"lock-2".ljust(16, b"-"))
QUEUE = b"queue".ljust(16, b"-")
#: How long it has a lock that it takes again at once.
RUSH_SECONDS = 0.0004


class Member:
    """A process that asks and waits."""

    is_root = False

    def __init__(self, world: World, member_id: bytes, agent: Agent | None) -> None:
        from simulation.coordination.world import PROGRAM

        self._world = world
        self.id = member_id
        self.program = PROGRAM
        self.agent = agent
        self.alive = True
        self.channel = 0
        self.stopped = False
        self.pid = int.from_bytes(member_id, "big") & 0xFFFF
        self._number = 0
        self._settled = 0
        self._waiting: dict[int, Callable[[c.Response | None], None]] = {}
        #: Requests without an answer.
        self._asked: dict[int, c.Request] = {}
        self._later: list[Callable[[], None]] = []
        #: The stream behind the pipe that it writes to.
        self.stream = b""

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()} {self.pid}"

    @property
    def runs(self) -> bool:
        """Whether it runs at present: it is neither dead nor stopped."""
        agent = self.agent
        if not self.alive:
            return False
        if agent is None:
            return self.is_root
        return agent.host.runs and not self.stopped

    def step(self, delay: float, call: Callable[[], None]) -> None:
        """Do something a little later, as soon as it runs then."""

        def now() -> None:
            if not self.alive:
                return
            if self.runs:
                call()
            elif self.agent is not None and not self.agent.host.runs:
                self.agent.when_running(now)
            else:
                self._later.append(now)

        self._world.after(delay, now)

    def signalled(self, number: int) -> None:
        """It gets a signal."""
        if number == signal.SIGSTOP:
            self._world.tell(self, "is stopped")
            self.stopped = True
        elif number == signal.SIGCONT:
            self.stopped = False
            self._world.checker.went_on(self)
            later, self._later = self._later, []
            for call in later:
                self._world.after(0.0, call)
        elif not self.is_root and not (self.stopped and number != signal.SIGKILL):
            self.die(-number)

    def ask(
        self,
        operation: Operation,
        key: bytes,
        arguments: list[Any],
        then: Callable[[c.Response | None], None],
        *,
        timeout: float | None = None,
    ) -> None:
        """Ask, and go on with the answer; at its time-out it gives up, and goes on with `None`."""
        self._number += 1
        number = self._number
        self._waiting[number] = then
        self._asked[number] = c.Request(
            self.id, number, self._settled, key, operation, False, arguments, []
        )
        self._relay(self._asked[number])
        if timeout is not None:
            self.step(timeout, lambda: self._give_up(number, key))

    def tell(
        self, operation: Operation, key: bytes, arguments: list[Any], body: bytes = b""
    ) -> None:
        """Have something done without an answer."""
        self._number += 1
        bodies = [body] if body else []
        self._relay(
            c.Request(
                self.id, self._number, self._settled, key, operation, True, arguments, list(bodies)
            )
        )

    def _relay(self, message: m.Message) -> None:
        if self.agent is not None:
            self.agent.relay(self, message)

    def _give_up(self, number: int, key: bytes) -> None:
        then = self._waiting.pop(number, None)
        self._asked.pop(number, None)
        if then is not None:
            self._world.tell(self, "gives up {}", number)
            self._relay(c.Withdraw(self.id, number, key))
            then(None)

    def hear(self, message: m.Message) -> None:
        """Its agent has something for it."""
        self.step(0.0, lambda: self._take(message))

    def _take(self, message: m.Message) -> None:
        if isinstance(message, c.Response):
            self._settled = message.number
            then = self._waiting.pop(message.number, None)
            self._asked.pop(message.number, None)
            if then is not None:
                if message.bodies:
                    self._relay(c.ItemsTaken(self.id, [message.number]))
                then(message)

    def mapped(self, memory: memoryview) -> None:
        """Its agent has given it the program's memory."""

    def opened(self, number: int) -> None:
        """Its agent has given it a descriptor."""
        self._world.files.close(number)

    def die(self, code: int) -> None:
        """It ends, by itself or by a signal."""
        if not self.alive:
            return
        self._world.tell(self, "ends with {}", code)
        self.alive = False
        self._world.checker.died(self, killed=code < 0)
        if self.agent is not None:
            self.agent.ended(self, code)

    def lost_agent(self) -> None:
        """Its agent is gone."""
        self.alive = False
        self._world.checker.died(self, killed=True)


class Process(Member):
    """A started process, and its script."""

    def __init__(self, world: World, agent: Agent, start: c.Start) -> None:
        super().__init__(world, start.member, agent)
        self._script = list(start.options["script"])
        self._lines = 0
        self._words: memoryview | None = None
        #: Slot, request and fence of each lock that is delegated to it.
        self._delegated: dict[bytes, tuple[int, int, int]] = {}
        #: The program's memory, once it has that.
        self._numbers: Numbers | None = None
        self._wants_memory = bool(start.options["memory"])
        self._end: list[bytes] = start.options.get("end", [])
        #: The pipe that it writes to, once it has that.
        self._file: int | None = None

    def begin(self) -> None:
        """Say that it runs, and work."""
        if not self.alive or self.agent is None:
            return
        self._relay(c.Began(self.id, self.pid))
        if self._wants_memory:
            self._relay(c.Map(self.program, SEGMENT, 0, 0, None))
        if self._end:
            self.stream = self._world.new_id()
            end, agent = self._end
            self._relay(c.Open(self.stream, end, self.id, self.program, agent, c.SENDS))
        self._print()
        self._next()

    def mapped(self, memory: memoryview) -> None:
        """See `Member`."""
        if self._numbers is None:
            self._numbers = Numbers(memory, self.id)

    def opened(self, number: int) -> None:
        """See `Member`."""
        if self.alive:
            self._file = number
        else:
            super().opened(number)

    def die(self, code: int) -> None:
        """See `Member`."""
        super().die(code)
        self._close()

    def lost_agent(self) -> None:
        """See `Member`."""
        super().lost_agent()
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._world.files.close(self._file)
            self._file = None

    def _print(self) -> None:
        """Write a line, which goes to the root by the agents, unless both are on one host."""
        if self.agent is not None and self.agent.host is not self._world.root.host:
            self._lines += 1
            line = b"%d of %d\n" % (self._lines, self.pid)
            self._world.checker.printed(self, line)
            self.agent.printed(self, line)

    def _next(self) -> None:
        if self._numbers is not None:
            self._numbers.add_own()
        if self._file is not None:
            data = bytes([len(self._script) % 256]) * self._world.random.randint(1, 200)
            self._world.checker.pipes.written(self, data)
            self._world.files.write(self._file, data)
        if not self._script:
            self._print()
            self.step(0.0, lambda: self.die(0))
            return
        what, seconds, which = self._script.pop(0)
        match what:
            case "lock":
                self._lock(which, seconds)
            case "put":
                self.step(seconds / 10, self._put)
            case _:
                self.ask(Operation.GET, QUEUE, [True, None], self._got, timeout=seconds)

    def _lock(self, which: int, seconds: float) -> None:
        """Take a lock, by itself if that is delegated to it."""
        key, slot = LOCKS[which], which + 1
        if key in self._delegated and self._store(key, 1):
            self._enter(key, self._delegated[key][2])
            self.step(seconds / 2, lambda: self._unlock(key))
            return
        words = self._make_words()
        words[2 * slot], words[2 * slot + 1] = 1, 0
        self.ask(
            Operation.DELEGATE,
            key,
            [True, None, 0, slot],
            lambda answer: self._locked(key, slot, answer, seconds),
            timeout=seconds if RUSH_SECONDS < seconds < 1.0 else None,
        )

    def _locked(self, key: bytes, slot: int, answer: c.Response | None, seconds: float) -> None:
        if answer is None:
            self._next()
            return
        assert answer.outcome in (Outcome.OK, Outcome.GONE), f"{self}: the lock says {answer}"
        if answer.outcome == Outcome.GONE:
            self.die(1)
            return
        if len(answer.arguments) > 1:
            self._delegated[key] = slot, answer.number, answer.epoch
        self._enter(key, answer.epoch)
        self.step(seconds / 2, lambda: self._unlock(key))

    def _enter(self, key: bytes, epoch: int) -> None:
        """It has a lock."""
        self._world.checker.acquired(self, key, epoch)
        if key == LOCKS[0] and self._numbers is not None:
            counter = self._world.checker.counter
            counter.found(self, self._numbers.counter)
            self._numbers.counter += 1
            counter.written(self._numbers.counter)

    def _unlock(self, key: bytes) -> None:
        if key == LOCKS[0]:
            self._world.checker.counter.released()
        self._world.checker.released(self, key)
        rushes = bool(self._script) and self._script[0][1] == RUSH_SECONDS
        if key in self._delegated:
            self._store(key, 0)
        else:
            self.tell(Operation.RELEASE, key, [])
        self.step(RUSH_SECONDS / 2 if rushes else 0.01, self._next)

    def _store(self, key: bytes, thread: int) -> bool:
        """Take or release a lock that is delegated to it; whether it still is."""
        slot, number, _ = self._delegated[key]
        assert self._words is not None
        self._words[2 * slot] = thread
        if not self._words[2 * slot + 1]:
            return True
        self._words[2 * slot] = 0
        del self._delegated[key]
        self.tell(Operation.RETURN, key, [number])
        return False

    def _make_words(self) -> memoryview:
        """Make the words of its locks, which its agent has too."""
        if self._words is None:
            assert self.agent is not None
            descriptor, size = self.agent.memories.new_descriptor(), 64
            self._words = self.agent.memories.adopt(descriptor, size).memory.cast("Q")
            self.agent.relay(self, c.LockWords(self.id, size), descriptor)
        return self._words

    def _put(self) -> None:
        item = self._world.new_id()
        if item[-1] % 2:  # who got a long one is written apart
            item = item.ljust(5_000)
        self._world.checker.put(self, item)
        self.tell(Operation.PUT, QUEUE, [False, None], item)
        self._next()

    def _got(self, answer: c.Response | None) -> None:
        if answer is not None and answer.outcome == Outcome.OK:
            self._world.checker.got(self, flat(answer.bodies[0]))
        self.step(0.01, self._next)


def flat(body: Payload) -> bytes:
    """Return a payload of one part."""
    assert isinstance(body, bytes)
    return body
