"""Tasks that have the results of other tasks for inputs, as the scheduler sees them."""

from __future__ import annotations

from typing import Any

import pytest

from manyhands_broker.core import Core, Drained, Limits, LinkClosed, Received, Send
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import given_results
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.held_result import Ticket
from manyhands_shared.protocol.public_name import public_name

TOKEN = b"t" * 16
OWNER = public_name(TOKEN)
KEY = b"k" * 16
TICKET = Ticket("a", "lender", KEY, [1_000_000]).encode()


class World:
    """A core, a client, and nodes "a" and "b", each on a host of its own."""

    def __init__(self, limit: int = 0, **limits: Any) -> None:
        self.core = Core(Limits(**limits), bytes(16), MemoryJournal(), 0.0)
        self.now = 1.0
        self.sent: list[tuple[str, m.Message]] = []
        for name in "ab":
            self.join(name)
        self.say("client", m.ClientHello(1, TOKEN, "", 0, limit, {}))
        self.say("client", m.Function(b"f" * 16, "f", [b"code"]))
        self.next = 0

    def join(self, name: str) -> None:
        info = {"host_id": name}
        self.say(name, m.WorkerHello(1, name, name.encode() * 16, 1, 8192, [], info))

    def say(self, peer: str, message: m.Message) -> None:
        self._note(self.core.handle(Received(peer.encode(), message), self.now))

    def drain(self) -> None:
        self._note(self.core.handle(Drained(), self.now))

    def _note(self, effects: list[Any]) -> None:
        self.core.validate()
        self.sent += [
            (effect.peer.decode(), effect.message) for effect in effects if isinstance(effect, Send)
        ]

    def take(self, peer: str, kind: type[Any]) -> list[Any]:
        """What was sent to a peer since the last look."""
        self.drain()
        found = [message for to, message in self.sent if to == peer and isinstance(message, kind)]
        self.sent = [one for one in self.sent if not (one[0] == peer and isinstance(one[1], kind))]
        return found

    def submit(self, *inputs: int, durable: bool = False) -> int:
        """One more task of the job, which has results of these for inputs."""
        index, self.next = self.next, self.next + 1
        options = {"durable": True} if durable else {}
        job = "d" if durable else "j"
        at = 0 if durable else index
        if inputs:
            self.say("client", m.Dependencies([m.Dependency(job, at, "j", one) for one in inputs]))
        group = m.SubmitGroup(job, b"f" * 16, options, at, False, [b"own"])
        self.say("client", m.Submit([group]))
        return index

    def given(self) -> dict[int, tuple[str, int, Any]]:
        """Tasks that were given out since the last look: node, attempt, arguments."""
        found: dict[int, tuple[str, int, Any]] = {}
        for name in "ab":
            for message in self.take(name, m.Assign):
                for group in message.groups:
                    for index, body in zip(group.indices, group.bodies, strict=True):
                        found[index] = name, group.attempt, body
        return found

    def end(self, name: str, index: int, attempt: int, status: int = 0, body: Any = b"r") -> None:
        group = m.ResultGroup("j", attempt, [index], bytes([status]), [body], 0.01)
        self.say(name, m.Results(1, [group]))

    def results(self) -> dict[int, tuple[int, Any]]:
        return {
            index: (status, body)
            for message in self.take("client", m.Results)
            for group in message.groups
            for index, status, body in zip(group.indices, group.statuses, group.bodies, strict=True)
        }


@pytest.fixture
def world() -> World:
    return World()


def test_a_task_waits_and_is_given_the_results_in_the_order_of_its_inputs(world: World) -> None:
    world.submit()
    world.submit()
    world.submit(1, 0)
    first = world.given()
    assert set(first) == {0, 1}
    for index, (name, attempt, _) in first.items():
        world.end(name, index, attempt, body=f"result {index}".encode())
    [(index, (_, _, body))] = world.given().items()
    assert index == 2
    owner, results, own = given_results.split(body)
    assert (owner, own) == (OWNER, b"own")
    assert [result.payload for result in results] == [b"result 1", b"result 0"]


def test_a_chain_of_ten_thousand_fails_with_its_first_and_nothing_recurses(world: World) -> None:
    world.submit()
    dependencies = [m.Dependency("j", index, "j", index - 1) for index in range(1, 10_001)]
    world.say("client", m.Dependencies(dependencies))
    group = m.SubmitGroup("j", b"f" * 16, {}, 1, False, [b"own"] * 10_000)
    world.say("client", m.Submit([group]))
    [(name, attempt, _)] = world.given().values()
    failure = Failure("ValueError", "no").encode()
    world.end(name, 0, attempt, m.Status.RAISED, failure)
    found: dict[int, tuple[int, Any]] = {}
    while len(found) < 10_001:
        fresh = world.results()
        assert fresh, "the rest of the chain is never told"
        found |= fresh
    status, body = found[10_000]
    assert status == m.Status.RAISED
    told = Failure.decode(body)
    assert told.message == "no"
    assert "task 0 of job j" in told.note


def test_a_cancelled_input_cancels_the_tasks_that_need_it(world: World) -> None:
    for inputs in ((), (0,), (1,)):
        world.submit(*inputs)
    [(name, attempt, _)] = world.given().values()
    world.say("client", m.Cancel([m.Span("j", 0, [0])]))
    world.end(name, 0, attempt, m.Status.CANCELLED, Failure("x", "y").encode())
    assert {status for status, _ in world.results().values()} == {m.Status.CANCELLED}


def test_a_held_input_stays_with_its_node_and_its_task_goes_there(world: World) -> None:
    world.submit()
    world.submit(0)
    [(name, attempt, _)] = world.given().values()
    world.end(name, 0, attempt, m.Status.HELD, TICKET)
    [(index, (place, _, body))] = world.given().items()
    assert (index, place) == (1, name)
    [result] = given_results.split(body)[1]
    assert result == (True, TICKET)


def test_a_held_input_does_not_count_against_the_limit_of_its_client() -> None:
    world = World(limit=1)
    world.submit()
    world.submit(0)
    world.submit()
    [(index, (name, attempt, _))] = world.given().items()
    assert index == 0
    world.end(name, 0, attempt, m.Status.HELD, TICKET)
    # One at a time, still.
    [(index, (name, attempt, _))] = world.given().items()
    world.end(name, index, attempt)
    [(last, _)] = world.given().items()
    assert {index, last} == {1, 2}


def test_an_input_held_by_a_node_that_is_lost_is_made_again(world: World) -> None:
    world.submit()
    world.submit(0)
    [(name, attempt, _)] = world.given().values()
    world.end(name, 0, attempt, m.Status.HELD, TICKET)
    world.given()
    world._note(world.core.handle(LinkClosed(name.encode()), world.now))
    world.now += 60.0
    other = "b" if name == "a" else "a"
    world.say(other, m.Renew(1, 1, 8192, []))
    [(place, attempt, _)] = [one for index, one in world.given().items() if index == 0]
    assert place == other
    world.end(other, 0, attempt, body=b"again")
    [(index, (_, _, body))] = world.given().items()
    assert index == 1
    assert given_results.split(body)[1] == [(False, b"again")]


def _tasks(world: World) -> dict[int, tuple[str, int, Any]]:
    """What nodes have now, as the broker sees it."""
    [chunk] = world.core.state.jobs["j"].chunks.values()
    return {
        index: (holder.name, chunk.attempts[index], None)
        for index, holder in enumerate(chunk.holders)
        if holder is not None
    }


def test_a_node_that_cannot_get_a_held_input_has_it_come_through_the_broker(world: World) -> None:
    world.submit()
    world.submit(0)
    [(name, attempt, _)] = world.given().values()
    world.end(name, 0, attempt, m.Status.HELD, TICKET)
    [(place, second, _)] = world.given().values()
    world.end(place, 1, second, m.Status.INPUT_GONE, KEY)
    assert world.take(name, m.Relay) == [m.Relay([m.Span("j", attempt, [0])])]
    assert not world.given()
    world.end(name, 0, attempt, body=b"sent")
    [(_, third, body)] = world.given().values()
    assert third == second + 1
    assert given_results.split(body)[1] == [(False, b"sent")]


def test_another_host_gets_a_held_input_from_the_node_that_has_it(world: World) -> None:
    world.submit()
    world.submit(0)
    [(name, attempt, _)] = world.given().values()
    world.end(name, 0, attempt, m.Status.HELD, TICKET)
    world.drain()
    other = "b" if name == "a" else "a"
    world.say(other, m.Want(KEY, OWNER))
    assert world.take(name, m.Want) == [m.Want(KEY, OWNER)]
    assert not world.take("client", m.Want)
    world.say(name, m.Stock(KEY, [b"bytes"]))
    assert world.take(other, m.Stock) == [m.Stock(KEY, [b"bytes"])]
    [(place, second, _)] = [one for index, one in _tasks(world).items() if index == 1]
    world.end(place, 1, second)
    # No task needs it any more: the copy goes.
    assert world.take(other, m.Stock) == [m.Stock(KEY, [])]


def test_an_input_that_has_ended_is_asked_of_the_client_and_asked_again(world: World) -> None:
    world.submit()
    [(name, attempt, _)] = world.given().values()
    world.end(name, 0, attempt)
    world.results()
    world.submit(0)
    wanted = [m.WantResults([m.Span("j", 0, [0])])]
    assert world.take("client", m.WantResults) == wanted
    world.say("client", m.ClientHello(1, TOKEN, "", 1, 0, {}))
    assert world.take("client", m.WantResults) == wanted
    assert not world.given()
    known = m.ResultGroup("j", 0, [0], bytes(1), [b"known"], 0.0)
    world.say("client", m.KnownResults([known]))
    [(_, _, body)] = world.given().values()
    assert given_results.split(body)[1] == [(False, b"known")]


def test_an_input_that_its_client_has_let_go_of_is_lost_and_not_asked_for_again(
    world: World,
) -> None:
    world.submit()
    [(name, attempt, _)] = world.given().values()
    world.end(name, 0, attempt)
    world.submit(0)
    assert len(world.take("client", m.WantResults)) == 1
    group = m.ResultGroup("j", 0, [0], bytes([m.Status.OK]), [b""], 0.0)
    world.say("client", m.KnownResults([group]))
    assert not world.take("client", m.WantResults)
    status, body = world.results()[1]
    assert status == m.Status.LOST
    assert "let go" in Failure.decode(body).message


def test_what_is_kept_counts_against_the_key_and_goes_with_the_last_task(world: World) -> None:
    world.submit()
    world.submit(0)
    [(name, attempt, _)] = world.given().values()
    world.end(name, 0, attempt, body=b"x" * 1_000)
    [ledger] = world.core.state.ledgers
    [(name, attempt, _)] = world.given().values()
    assert ledger.bytes == len(b"own") + 1_000
    world.end(name, 1, attempt)
    assert ledger.bytes == 0
    assert not next(iter(world.core.state.sessions.values())).sources


def test_beyond_the_budget_a_kept_result_fails_its_tasks_and_says_why() -> None:
    world = World(window_bytes=100)
    world.submit()
    world.submit(0)
    [(name, attempt, _)] = world.given().values()
    world.end(name, 0, attempt, body=b"x" * 1_000)
    world.drain()
    status, body = world.results()[1]
    assert status == m.Status.RAISED
    assert "--window-bytes" in Failure.decode(body).message


def test_durable_tasks_are_refused_with_a_sentence(world: World) -> None:
    world.submit()
    world.submit(0, durable=True)
    [rejected] = world.take("client", m.Rejected)
    assert "only attached tasks" in rejected.reason


def test_a_circle_waits_and_ends_with_its_session(world: World) -> None:
    world.say(
        "client", m.Dependencies([m.Dependency("j", 0, "j", 1), m.Dependency("j", 1, "j", 0)])
    )
    world.say("client", m.Submit([m.SubmitGroup("j", b"f" * 16, {}, 0, False, [b"own"] * 2)]))
    assert not world.given()
    world.say("client", m.Bye(""))
    world.drain()
    assert not world.core.state.jobs
