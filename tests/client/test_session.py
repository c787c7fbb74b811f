"""The session core: alone, and against a model broker under random schedules of faults."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest

from manyhands.session import Session
from manyhands.session.types import (
    AddJob,
    Answered,
    Append,
    Ask,
    CancelOther,
    CancelTasks,
    Close,
    CloseJob,
    Deliver,
    Effect,
    Event,
    Failed,
    Flush,
    LinkLost,
    LinkUp,
    Opened,
    Received,
    Relink,
    Send,
    State,
    Tick,
)
from manyhands_shared.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Ack,
    Bye,
    Cancel,
    ClientHello,
    ClientWelcome,
    Function,
    JobCount,
    Message,
    Need,
    Ping,
    Pong,
    Query,
    Refused,
    Reply,
    ResultGroup,
    Results,
    Span,
    Status,
    Submit,
    SubmitGroup,
    Who,
)

BROKER = b"B" * 16
FUNCTION = Function(b"F" * 16, "f", [b"code"])


class Driver:
    """A session with its effects kept: what it sends and what it delivers."""

    def __init__(self, window_tasks: int = 1_000, window_bytes: int = 1 << 20) -> None:
        self.session = Session(b"T" * 16, name="test", info={})
        self.window = (window_tasks, window_bytes)
        self.now = 0.0
        self.sent: list[Message] = []
        self.effects: list[Effect] = []

    def do(self, event: Event) -> None:
        for effect in self.session.handle(event, self.now):
            if isinstance(effect, Send):
                self.sent.append(effect.message)
            else:
                self.effects.append(effect)
        self.session.validate()

    def receive(self, message: Message) -> None:
        self.do(Received(message))

    def flush(self) -> list[Message]:
        """Flush until nothing is left to send; what was sent since the last time."""
        while self.session.wants_flush:
            self.do(Flush())
        sent, self.sent = self.sent, []
        return sent

    def welcome(self, *, resumed: bool = False, ping: float = 0.0) -> None:
        self.receive(ClientWelcome(PROTOCOL_VERSION, BROKER, resumed, *self.window, ping))

    def open(self) -> Driver:
        self.do(LinkUp())
        self.welcome()
        self.sent.clear()
        self.effects.clear()
        return self

    def job(self, name: str = "j", count: int = 0) -> None:
        self.do(AddJob(name, FUNCTION, {"name": name}))
        if count:
            self.do(Append(name, [b"%d" % n for n in range(count)]))

    def end(self, seq: int, job: str, indices: list[int], status: Status = Status.OK) -> None:
        bodies = [b"r%d" % index for index in indices]
        self.receive(
            Results(
                seq, [ResultGroup(job, 1, indices, bytes([status] * len(indices)), bodies, 0.0)]
            )
        )

    @property
    def delivered(self) -> list[tuple[str, int, int]]:
        return [
            (effect.job, index, status)
            for effect in self.effects
            if isinstance(effect, Deliver)
            for index, status in zip(effect.indices, effect.statuses, strict=True)
        ]


def groups_of(messages: list[Message]) -> list[SubmitGroup]:
    return [
        group for message in messages if isinstance(message, Submit) for group in message.groups
    ]


def test_says_hello_when_the_link_is_up_and_nothing_before_the_welcome() -> None:
    driver = Driver()
    driver.job(count=3)
    assert driver.flush() == []
    driver.do(LinkUp())
    assert [type(message) for message in driver.sent] == [ClientHello]
    assert driver.session.state is State.GREETING
    driver.sent.clear()
    driver.welcome()
    assert driver.effects == [Opened(BROKER, resumed=False)]
    sent = driver.flush()
    assert sent == [FUNCTION, Submit([groups_of(sent)[0]])]
    assert groups_of(sent)[0].bodies == [b"0", b"1", b"2"]


def test_tells_options_and_function_once_and_numbers_tasks_on() -> None:
    driver = Driver().open()
    driver.job(count=2)
    first = driver.flush()
    driver.do(Append("j", [b"x"]))
    second = driver.flush()
    assert [group.options for group in groups_of(first + second)] == [{"name": "j"}, None]
    assert [group.first for group in groups_of(first + second)] == [0, 2]
    assert sum(message == FUNCTION for message in first + second) == 1


def test_sends_no_more_tasks_than_the_window() -> None:
    driver = Driver(window_tasks=5).open()
    driver.job(count=12)
    assert [len(group.bodies) for group in groups_of(driver.flush())] == [5]
    driver.end(1, "j", [0, 1])
    assert [len(group.bodies) for group in groups_of(driver.flush())] == [2]


def test_sends_no_more_bytes_than_the_window_but_always_one_task() -> None:
    driver = Driver(window_bytes=10).open()
    driver.do(AddJob("j", FUNCTION, {}))
    driver.do(Append("j", [b"x" * 8, b"y" * 2, b"z" * 30, b"w"]))
    assert [group.bodies for group in groups_of(driver.flush())] == [[b"x" * 8, b"y" * 2]]
    driver.end(1, "j", [0])
    assert groups_of(driver.flush()) == []
    driver.end(2, "j", [1])
    assert [group.bodies for group in groups_of(driver.flush())] == [[b"z" * 30]]


def test_jobs_take_turns() -> None:
    driver = Driver(window_tasks=100_000, window_bytes=1 << 30).open()
    driver.job("long", 10_000)
    driver.job("short", 1)
    driver.do(Flush())
    driver.do(Flush())
    assert "short" in [group.job for group in groups_of(driver.sent)]


def test_acknowledges_what_it_has_seen_and_delivers_it_once() -> None:
    driver = Driver().open()
    driver.job(count=2)
    driver.flush()
    driver.end(1, "j", [0])
    driver.end(1, "j", [0])
    driver.end(2, "j", [0, 1])
    assert driver.delivered == [("j", 0, Status.OK), ("j", 1, Status.OK)]
    assert driver.flush() == [Ack(2)]
    driver.end(2, "j", [0])
    assert driver.flush() == [Ack(2)], "a repeated message asks for its acknowledgement"


def test_says_hello_after_a_gap_in_the_results() -> None:
    driver = Driver().open()
    driver.job(count=5)
    driver.flush()
    driver.end(1, "j", [0])
    driver.flush()
    driver.end(3, "j", [2])
    assert driver.delivered == [("j", 0, Status.OK)]
    hello = driver.flush()[-1]
    assert isinstance(hello, ClientHello)
    assert hello.last_seq == 1


def test_a_resumed_session_sends_what_was_not_confirmed() -> None:
    driver = Driver().open()
    driver.job(count=6)
    driver.flush()
    driver.receive(Accepted([JobCount("j", 4)], 1_000))
    driver.end(1, "j", [1])
    driver.do(LinkLost())
    assert driver.effects[-1] == Relink()
    driver.do(LinkUp())
    driver.welcome(resumed=True)
    again = groups_of(driver.flush())
    assert [(group.first, group.bodies) for group in again] == [(4, [b"4", b"5"])]


def test_a_forgotten_session_sends_everything_that_has_not_ended() -> None:
    driver = Driver().open()
    driver.job(count=6)
    driver.flush()
    driver.receive(Accepted([JobCount("j", 6)], 1_000))
    driver.end(1, "j", [0, 3])
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.welcome(resumed=False)
    sent = driver.flush()
    again = [(group.first, len(group.bodies), group.options) for group in groups_of(sent)]
    assert again == [(1, 2, {"name": "j"}), (4, 2, None)]
    assert FUNCTION in sent
    driver.end(1, "j", [1, 2, 4, 5])
    assert len(driver.delivered) == 6


def test_who_makes_it_say_hello_once() -> None:
    driver = Driver().open()
    driver.receive(Who(BROKER))
    driver.receive(Who(BROKER))
    assert [type(message) for message in driver.sent] == [ClientHello]


def test_a_task_cancelled_before_it_was_sent_goes_without_arguments() -> None:
    driver = Driver(window_tasks=1).open()
    driver.job(count=3)
    driver.flush()
    driver.do(CancelTasks("j", [1]))
    assert driver.sent == [], "the broker does not know it yet"
    driver.end(1, "j", [0])
    sent = driver.flush()
    assert [group.bodies for group in groups_of(sent)] == [[b""]]
    assert Cancel([Span("j", 0, [1])]) in sent
    driver.end(2, "j", [1], Status.RAISED)
    assert ("j", 1, Status.CANCELLED) in driver.delivered, "it had no arguments to run with"


def test_a_sent_task_is_cancelled_by_the_broker() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.flush()
    driver.do(CancelTasks("j", [2, 7]))
    assert driver.sent == [Cancel([Span("j", 0, [2])])]
    assert driver.delivered == []
    driver.end(1, "j", [2], Status.OK)
    assert driver.delivered == [("j", 2, Status.OK)], "it had ended before"


def test_cancelling_a_job_ends_what_was_not_sent() -> None:
    driver = Driver(window_tasks=2).open()
    driver.job(count=5)
    driver.flush()
    driver.do(CancelTasks("j", None))
    assert driver.delivered == [("j", index, Status.CANCELLED) for index in (2, 3, 4)]
    assert Cancel([Span("j", 0, [])]) in driver.flush()
    driver.end(1, "j", [0, 1], Status.CANCELLED)
    assert len(driver.delivered) == 5
    assert driver.session.books.held_tasks == 0


def test_a_cancellation_is_repeated_on_a_resumed_link_and_never_widened() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.flush()
    driver.receive(Accepted([JobCount("j", 3)], 1_000))
    driver.do(CancelTasks("j", [1]))
    assert driver.flush()[-1] == Cancel([Span("j", 0, [1])])
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.welcome(resumed=True)
    cancels = [message for message in driver.flush() if isinstance(message, Cancel)]
    assert cancels == [Cancel([Span("j", 0, [1])])], "again, on the new link"
    driver.end(1, "j", [1], Status.CANCELLED)
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.welcome(resumed=True)
    assert not any(isinstance(message, Cancel) for message in driver.flush()), "none is left"


def test_a_broker_without_memory_is_not_told_of_cancelled_tasks() -> None:
    driver = Driver().open()
    driver.job(count=3)
    driver.flush()
    driver.do(CancelTasks("j", [1]))
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.welcome(resumed=False)
    assert driver.delivered == [("j", 1, Status.CANCELLED)]
    assert [group.first for group in groups_of(driver.flush())] == [0, 2]


def test_answers_need_and_ping_and_counts_what_makes_no_sense() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.receive(Need(FUNCTION.digest))
    driver.receive(Need(b"?" * 16))
    driver.receive(Ping(7))
    assert driver.sent == [FUNCTION, Pong(7)]
    driver.receive(Submit([]))
    driver.receive(ClientWelcome(PROTOCOL_VERSION, BROKER, False, 1, 1, 0.0))
    assert driver.session.dropped == 2
    assert driver.session.state is State.OPEN


def test_pings_and_gives_up_a_link_that_does_not_answer() -> None:
    driver = Driver()
    driver.do(LinkUp())
    driver.welcome(ping=5.0)
    driver.sent.clear()
    driver.now = 5.0
    assert driver.session.deadline == 5.0
    driver.do(Tick())
    assert driver.sent == [Ping(1)]
    driver.now = 6.0
    driver.receive(Pong(1))
    driver.now = 10.0
    driver.do(Tick())
    driver.now = 15.0
    driver.do(Tick())
    assert driver.session.state is State.OPEN
    driver.now = 20.0
    driver.do(Tick())
    assert driver.effects[-1] == Relink()


def test_a_hello_without_an_answer_asks_for_another_link() -> None:
    driver = Driver()
    driver.do(LinkUp())
    driver.now = 9.9
    driver.do(Tick())
    assert driver.effects == []
    driver.now = 10.0
    driver.do(Tick())
    assert driver.effects == [Relink()]


def test_questions_survive_a_lost_link() -> None:
    driver = Driver()
    driver.do(Ask(1, "jobs", {}))
    driver.do(CancelOther("elsewhere"))
    assert driver.sent == []
    driver.open()
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.welcome(resumed=True)
    assert Query(1, "jobs", {}) in driver.sent
    driver.receive(Reply(1, "", [1]))
    driver.receive(Reply(1, "", [1]))
    assert [effect for effect in driver.effects if isinstance(effect, Answered)] == [
        Answered(1, "", [1])
    ]


def test_a_refused_session_is_over() -> None:
    driver = Driver()
    driver.do(LinkUp())
    driver.receive(Refused("protocol", "no"))
    assert driver.effects == [Failed("protocol", "no")]
    driver.do(LinkUp())
    driver.do(Ask(1, "jobs", {}))
    assert driver.session.handle(LinkUp(), 0.0) == []
    assert driver.session.deadline is None


def test_closing_says_bye() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.do(Close("done"))
    driver.do(Close("done"))
    assert driver.sent == [Bye("done")]


def test_an_ended_job_leaves_nothing_in_the_books() -> None:
    driver = Driver().open()
    driver.job(count=2)
    driver.flush()
    driver.do(CloseJob("j"))
    closing = groups_of(driver.flush())
    assert [(group.first, group.bodies, group.closed) for group in closing] == [(2, [], True)]
    driver.end(1, "j", [1, 0])
    assert driver.session.books.function(FUNCTION.digest) is None
    with pytest.raises(KeyError):
        driver.do(Append("j", [b"late"]))


@pytest.mark.parametrize("heard", [False, True])
def test_a_closing_that_may_be_lost_with_the_link_is_said_again(heard: bool) -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.end(1, "j", [0])
    driver.do(CloseJob("j"))
    driver.flush()
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.sent.clear()
    driver.welcome(resumed=True, ping=1.0)
    [again] = groups_of(driver.sent)
    assert (again.job, again.first, again.bodies, again.closed) == ("j", 1, [], True)
    driver.now += 2.0
    driver.do(Tick())
    driver.receive(Pong(1 if heard else 0))
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.sent.clear()
    driver.welcome(resumed=True)
    assert len(groups_of(driver.sent)) == (0 if heard else 1)
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.sent.clear()
    driver.welcome(resumed=False)
    assert not groups_of(driver.sent), "a broker that forgot the session forgot the job"


def relink(driver: Driver, *, resumed: bool) -> list[Message]:
    """A new link, and what is said on it at once."""
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.sent.clear()
    driver.welcome(resumed=resumed)
    return driver.flush()


def test_a_job_whose_acceptance_was_lost_is_closed_though_its_results_come_first() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.welcome(resumed=True)
    driver.end(1, "j", [0])  # said again before the task was sent again
    driver.flush()
    driver.do(CloseJob("j"))
    [closing] = groups_of(driver.flush())
    assert (closing.bodies, closing.closed) == ([], True)
    assert not driver.session.books.knows("j")


def test_a_job_whose_acceptance_was_lost_is_cancelled_and_closed() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.do(LinkLost())
    driver.do(LinkUp())
    driver.welcome(resumed=True)
    driver.sent.clear()
    driver.do(CancelTasks("j", None))
    assert driver.delivered == [("j", 0, Status.CANCELLED)]
    said = driver.flush()
    assert said[0] == Cancel([Span("j", 0, [])])
    [closing] = groups_of(said)
    assert (closing.first, closing.bodies, closing.closed) == (0, [], True)
    assert closing.options is not None, "the broker may never have heard of the job"
    assert not driver.session.books.knows("j")


def test_a_function_that_may_be_lost_with_the_link_goes_before_the_next_tasks() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.receive(Accepted([JobCount("j", 1)], 1_000))
    assert relink(driver, resumed=True) == []
    driver.do(Append("j", [b"more"]))
    assert [type(message) for message in driver.flush()] == [Function, Submit]


def test_a_broker_that_forgot_a_job_is_not_told_that_it_is_over() -> None:
    driver = Driver().open()
    driver.job(count=1)
    driver.flush()
    driver.do(LinkLost())
    driver.do(CancelTasks("j", None))
    assert relink(driver, resumed=False) == []
    assert not driver.session.books.knows("j")


# Random schedules ---------------------------------------------------------------------------------


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

    def do(self, event: Event) -> None:
        for effect in self.session.handle(event, self.now):
            if isinstance(effect, Send):
                self.to_broker.append(effect.message)
            elif isinstance(effect, Relink):
                self.to_broker.clear()
                self.to_client.clear()
                self.greeted = False
            elif isinstance(effect, Deliver):
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
                assert group.options is not None, "a job begins with its options"
                memory.told.add(group.job)
            for index, body in enumerate(group.bodies, group.first):
                if index >= known:
                    assert isinstance(body, bytes)
                    memory.tasks[group.job, index] = body
            memory.counts[group.job] = max(known, group.first + len(group.bodies))
        # After a lost link, what the broker has and we cannot know of comes on top.
        assert len(memory.tasks) <= 2 * self.window, "far more than the window"
        counts = [JobCount(group.job, memory.counts[group.job]) for group in message.groups]
        self.to_client.append(Accepted(counts, self.window))

    def on_run(self) -> None:
        if self.memory is not None and self.memory.tasks:
            key = self.random.choice(list(self.memory.tasks))
            body = self.memory.tasks[key]
            if body:
                assert body == b"%s:%d" % (key[0].encode(), key[1]), "another task's arguments"
                self.finish(self.memory, key, Status.OK, b"=" + body)
            else:
                assert key in self.cancelled, "lost the arguments of a task that nobody cancelled"
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
            under_way = self.session.books.held_tasks or self.to_broker or self.to_client
            if not under_way and self.session.state is State.OPEN and not self.session.wants_flush:
                return
        raise AssertionError("it does not come to an end")

    def check(self) -> None:
        every = {(name, n) for name, count in self.submitted.items() for n in range(count)}
        assert self.delivered.keys() == every, "lost, or never submitted"
        assert set(self.delivered.values()) <= {1}, "delivered twice"
        for key in every - self.cancelled:
            assert self.outcomes[key] == (Status.OK, b"=%s:%d" % (key[0].encode(), key[1]))
        assert self.session.books.held_bytes == 0


@pytest.mark.parametrize("block", range(10))
def test_nothing_is_lost_or_doubled_under_random_faults(block: int) -> None:
    for seed in range(block * 30, block * 30 + 30):
        world = World(seed)
        try:
            for _ in range(300):
                world.step()
            world.drain()
            world.check()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
