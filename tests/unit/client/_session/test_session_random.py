"""The session core against a model broker under random schedules of faults."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from harness.worlds.session import BROKER
from manyhands._session import Session
from manyhands._session.effects import Deliver, JobOver, Numbered, Relink, Send
from manyhands._session.events import (
    AddJob,
    Append,
    CancelTasks,
    CloseJob,
    Event,
    Flush,
    LinkLost,
    LinkUp,
    Received,
    State,
    Tick,
)
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Ack,
    Cancel,
    ClientHello,
    ClientWelcome,
    Function,
    JobCount,
    Message,
    Ping,
    Pong,
    ResultGroup,
    Results,
    Status,
    Submit,
    Who,
)


@dataclass
class Remembered:
    """A session as the model broker knows it."""

    seq: int = 0
    unacked: dict[int, Results] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    tasks: dict[tuple[str, int], bytes] = field(default_factory=dict)
    #: Something came after the welcome, so the client knows that this memory is a new one.
    confirmed: bool = False
    told: set[str] = field(default_factory=set)


# How often what happens, in proportion.
_WEIGHTS = {
    "submit": 6,
    "add": 1,
    "close": 1,
    "cancel": 1,
    "flush": 8,
    "up": 6,
    "in": 8,
    "out": 8,
    "run": 8,
    "lose": 0.5,
    "restart": 0.2,
    "repeat": 0.5,
    "forget": 0.1,
    "tick": 1,
}


class World:
    """One session, one model broker, a link between that loses, repeats and breaks."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.window = self.random.choice([3, 10, 100])
        self.session = Session(b"T" * 16, info={})
        self.now = 0.0
        self.memory: Remembered | None = None
        self.greeted = False
        self.to_broker: deque[Message] = deque()
        self.to_client: deque[Message] = deque()
        self.delivered: Counter[tuple[str, int]] = Counter()
        self.outcomes: dict[tuple[str, int], tuple[int, object]] = {}
        self.submitted: dict[str, int] = {}
        self.cancelled: set[tuple[str, int]] = set()
        self.open_jobs: list[str] = []
        self.over: Counter[str] = Counter()

    def do(self, event: Event) -> None:
        for effect in self.session.handle(event, self.now):
            if isinstance(effect, Send):
                self.to_broker.append(effect.message)
            elif isinstance(effect, Relink):
                self.to_broker.clear()
                self.to_client.clear()
                self.greeted = False
            elif isinstance(effect, Numbered):
                assert effect.first == self.submitted[effect.job]
            elif isinstance(effect, JobOver):
                self.over[effect.job] += 1
            elif isinstance(effect, Deliver):
                assert not self.over[effect.job], "delivered when the job was over"
                rows = zip(effect.indices, effect.statuses, effect.bodies, strict=True)
                for index, status, body in rows:
                    self.delivered[effect.job, index] += 1
                    self.outcomes[effect.job, index] = (status, body)
        self.session.validate()

    def step(self) -> None:
        choose = self.random.choices
        self.now += self.random.random()
        action = choose(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        getattr(self, f"on_{action}")()

    def on_add(self) -> None:
        name = f"job{len(self.submitted)}"
        self.submitted[name] = 0
        self.open_jobs.append(name)
        self.do(AddJob(name, Function(bytes([len(self.submitted) % 3]) * 16, name, [b""]), {}))

    def on_submit(self) -> None:
        if self.open_jobs:
            name = self.random.choice(self.open_jobs)
            first, count = self.submitted[name], self.random.randint(1, 6)
            self.do(Append(name, [b"%s:%d" % (name.encode(), first + n) for n in range(count)]))
            self.submitted[name] += count

    def on_close(self) -> None:
        if self.open_jobs:
            name = self.open_jobs.pop(self.random.randrange(len(self.open_jobs)))
            self.do(CloseJob(name))

    def on_cancel(self) -> None:
        names = [name for name in self.submitted if self.submitted[name]]
        if not names:
            return
        name = self.random.choice(names)
        if self.random.random() < 0.2:
            self.cancelled |= {(name, index) for index in range(self.submitted[name])}
            if name in self.open_jobs:
                self.open_jobs.remove(name)
            self.do(CancelTasks(name, None))
        else:
            index = self.random.randrange(self.submitted[name])
            self.cancelled.add((name, index))
            self.do(CancelTasks(name, [index]))

    def on_flush(self) -> None:
        if self.session.wants_flush:
            before = len(self.to_broker)
            self.do(Flush())
            assert len(self.to_broker) > before, "wants to flush and has nothing to send"

    def on_up(self) -> None:
        if self.session.state is State.CONNECTING:
            self.do(LinkUp())

    def on_tick(self) -> None:
        if self.session.deadline is not None and self.now >= self.session.deadline:
            self.do(Tick())

    def on_lose(self) -> None:
        if self.session.state is not State.CONNECTING:
            self.do(LinkLost())

    def on_restart(self) -> None:
        self.memory = None
        self.on_lose()

    def on_forget(self) -> None:
        self.memory, self.greeted = None, False

    def on_in(self) -> None:
        if self.to_client:
            self.do(Received(self.to_client.popleft()))

    def on_repeat(self) -> None:
        results = [message for message in self.to_client if isinstance(message, Results)]
        if results:
            self.do(Received(results[0]))

    def on_out(self) -> None:
        if not self.to_broker:
            return
        message = self.to_broker.popleft()
        if isinstance(message, ClientHello):
            if self.memory is None or not self.memory.confirmed:
                self.memory = Remembered()
            resumed = self.memory.confirmed
            self.greeted = True
            self.to_client.append(
                ClientWelcome(PROTOCOL_VERSION, BROKER, resumed, self.window, 1 << 20, 30.0)
            )
            for seq, results in self.memory.unacked.items():
                if seq > message.last_seq:
                    self.to_client.append(results)
            return
        if not self.greeted or self.memory is None:
            self.to_client.append(Who(BROKER))
            return
        self.memory.confirmed = True
        if isinstance(message, Submit):
            self.take(self.memory, message)
        elif isinstance(message, Ack):
            self.memory.unacked = {n: r for n, r in self.memory.unacked.items() if n > message.seq}
        elif isinstance(message, Cancel):
            for span in message.spans:
                for key in list(self.memory.tasks):
                    if key[0] == span.job and (not span.indices or key[1] in span.indices):
                        self.finish(self.memory, key, Status.CANCELLED, b"")
        elif isinstance(message, Ping):
            self.to_client.append(Pong(message.counter))

    def take(self, memory: Remembered, message: Submit) -> None:
        for group in message.groups:
            known = memory.counts.get(group.job, 0)
            if group.job not in memory.told:
                if group.options is None and not group.bodies:
                    continue  # the closing of a job that is over there, said again, and unknown here
                assert group.options is not None, "a job begins with its options"
                memory.told.add(group.job)
            for index, body in enumerate(group.bodies, group.first):
                if index >= known:
                    assert isinstance(body, bytes)
                    memory.tasks[group.job, index] = body
            memory.counts[group.job] = max(known, group.first + len(group.bodies))
        # After a lost link, what the broker has and we cannot know of comes on top.
        assert len(memory.tasks) <= 2 * self.window, "far more than the window"
        counts = [
            JobCount(group.job, memory.counts[group.job])
            for group in message.groups
            if group.job in memory.counts
        ]
        self.to_client.append(Accepted(counts, self.window, 1 << 30))

    def on_run(self) -> None:
        if self.memory is not None and self.memory.tasks:
            key = self.random.choice(list(self.memory.tasks))
            body = self.memory.tasks[key]
            if body:
                assert body == b"%s:%d" % (key[0].encode(), key[1]), "another task's arguments"
                self.finish(self.memory, key, Status.OK, b"=" + body)
            else:
                assert key in self.cancelled, "lost the arguments of a task that was not cancelled"
                self.finish(self.memory, key, Status.RAISED, b"")

    def finish(self, memory: Remembered, key: tuple[str, int], status: Status, body: bytes) -> None:
        del memory.tasks[key]
        memory.seq += 1
        group = ResultGroup(key[0], 1, [key[1]], bytes([status]), [body], 0.0)
        memory.unacked[memory.seq] = Results(memory.seq, [group])
        if self.greeted:
            self.to_client.append(memory.unacked[memory.seq])

    def drain(self) -> None:
        """No more faults: everything must end, soon."""
        while self.open_jobs:
            self.on_close()
        for _ in range(100_000):
            self.now += 1.0  # a ping finds out that the broker has forgotten us
            for action in ("tick", "up", "out", "in", "run", "flush"):
                getattr(self, f"on_{action}")()
            under_way = self.session._jobs.unended_tasks or self.to_broker or self.to_client
            if not under_way and self.session.state is State.OPEN and not self.session.wants_flush:
                return
        raise AssertionError("it does not come to an end")

    def check(self) -> None:
        every = {(name, n) for name, count in self.submitted.items() for n in range(count)}
        assert self.delivered.keys() == every, "lost, or never submitted"
        assert set(self.delivered.values()) <= {1}, "delivered twice"
        for key in every - self.cancelled:
            assert self.outcomes[key] == (Status.OK, b"=%s:%d" % (key[0].encode(), key[1]))
        assert self.session.unended_bytes == 0
        assert self.over == dict.fromkeys(self.submitted, 1), "a job is over once"


#: In these a job stood in line whose tasks had all been cancelled.
_ODD_SEEDS = (403, 1917)


@pytest.mark.parametrize(
    "seeds", [*(range(first, first + 30) for first in range(0, 300, 30)), _ODD_SEEDS], ids=str
)
def test_nothing_is_lost_or_doubled_under_random_faults(seeds: Sequence[int]) -> None:
    for seed in seeds:
        world = World(seed)
        try:
            for _ in range(300):
                world.step()
            world.drain()
            world.check()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
