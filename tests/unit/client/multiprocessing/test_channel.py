"""The channel of a member: what is withdrawn is not taken, and what was taken is said."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from harness.processes import eventually
from harness.threads import Worker, no_thread_left
from manyhands.multiprocessing._processes.channel import Channel
from manyhands_shared.coordination.channel import MemberChannel
from manyhands_shared.protocol.messages.coordination import (
    ItemsTaken,
    Request,
    Response,
    Withdraw,
)

MEMBER, KEY = b"M" * 16, b"k" * 16


class Owner:
    """Is told of nothing else here."""

    def receive(self, message: Any, descriptors: list[int]) -> None:
        """Take a message."""

    def reconnect(self) -> None:
        """There is no other agent."""

    def __init__(self) -> None:
        self.due: float | None = None
        self.ticked = threading.Event()

    def deadline(self) -> float | None:
        """Nothing is due, but for one test."""
        return self.due

    def tick(self) -> None:
        """It is not due any more."""
        self.due = None
        self.ticked.set()


class Agent:
    """The other end."""

    def __init__(self, sock: socket.socket) -> None:
        self.end = MemberChannel(sock)
        self.heard: list[Any] = []
        #: All of it.
        self.told: list[Any] = []

    def hear(self, kind: type) -> Any:
        """Wait for a message of this kind; return the first that came since the last."""

        def found() -> Any:
            came = [message for message, _ in self.end.receive()]
            self.heard += came
            self.told += came
            return next((one for one in self.heard if type(one) is kind), None)

        message = eventually(found)
        self.heard = self.heard[self.heard.index(message) + 1 :]
        return message

    def answer(self, request: Request, *bodies: bytes) -> None:
        """Answer a request."""
        self.end.send(Response(MEMBER, request.number, 0, 0, [], list(bodies)))


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Agent]]:
    here, there = socket.socketpair()
    channel, agent = Channel(MEMBER, MemberChannel(here), Owner(), repeats=False), Agent(there)
    yield channel, agent
    channel.close()
    agent.end.close()


class Late:
    """A channel's lock; before the caller takes it to withdraw its request, the answer comes."""

    def __init__(self, channel: Channel, agent: Agent) -> None:
        self._channel, self._agent = channel, agent
        self._lock = channel._lock
        self._caller = threading.current_thread()
        self._entered = 0

    def __enter__(self) -> None:
        if threading.current_thread() is self._caller:
            self._entered += 1
            if self._entered == 2:
                self._agent.answer(self._agent.hear(Request))
                eventually(lambda: not self._channel._waits)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _is_owned(self) -> bool:
        """Whether this thread has it; no finalizer runs here."""
        return False


def test_an_answer_that_comes_as_the_time_is_over_is_taken_or_withdrawn_never_both(
    ends: tuple[Channel, Agent],
) -> None:
    channel, agent = ends
    channel.attend()
    channel._lock = Late(channel, agent)  # type: ignore[assignment]
    response = channel.request(1, KEY, [], timeout=0.0)
    assert response is not None
    channel.tell(2, KEY, [])
    agent.hear(Request)
    assert not any(type(one) is Withdraw for one in agent.told)


def test_a_request_whose_time_is_over_is_withdrawn_and_its_late_answer_is_not_taken(
    ends: tuple[Channel, Agent],
) -> None:
    channel, agent = ends
    assert channel.request(1, KEY, [], timeout=0.01) is None
    request = agent.hear(Request)
    assert agent.hear(Withdraw) == Withdraw(MEMBER, request.number, KEY)
    agent.answer(request, b"an item")
    worker = Worker(lambda: channel.request(1, KEY, []))
    following = agent.hear(Request)
    assert following.settled == 0
    agent.answer(following)
    worker.result()
    channel.tell(2, KEY, [])
    assert agent.hear(Request).settled == following.number


def test_items_are_confirmed_by_the_next_request_or_soon(ends: tuple[Channel, Agent]) -> None:
    channel, agent = ends
    worker = Worker(lambda: channel.request(15, KEY, []))
    request = agent.hear(Request)
    agent.answer(request, b"an item")
    assert worker.result().bodies == [b"an item"]
    assert agent.hear(ItemsTaken) == ItemsTaken(MEMBER, [request.number])
    channel.tell(2, KEY, [])
    assert agent.hear(Request).settled == request.number


def test_what_is_due_is_done_though_answers_come_all_the_time() -> None:
    here, there = socket.socketpair()
    owner, agent = Owner(), Agent(there)
    channel = Channel(MEMBER, MemberChannel(here), owner, repeats=False)
    # The thread begins with an answer to take, and what is due.
    owner.due = 1e-9
    agent.end.send(Response(MEMBER, 7, 0, 0, [], []))
    channel.attend()
    assert owner.ticked.wait(60)
    channel.close()
    agent.end.close()


def test_without_a_thread_a_request_fails_and_the_next_one_is_answered(
    ends: tuple[Channel, Agent],
) -> None:
    channel, agent = ends
    with no_thread_left(), pytest.raises(OSError, match="the system gives no thread"):
        channel.request(1, KEY, [])
    worker = Worker(lambda: channel.request(1, KEY, []))
    agent.answer(agent.hear(Request))
    assert worker.result() is not None
