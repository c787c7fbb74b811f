"""Attached jobs: held by their clients, found on nodes after a restart."""

from __future__ import annotations

import pytest

from harness.worlds.broker import FUNCTION, World
from manyhands_broker.core import LinkClosed
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import Status


def attached(world: World, count: int, first: int = 0, *, closed: bool = False) -> None:
    world.submit(count, first=first, durable=False, closed=closed)


def test_an_orphan_is_adopted_when_its_client_submits_again(world: World) -> None:
    world.node()
    attached(world, 3)
    world.assigned()
    world.restart()
    span = m.Span("job", 1, [0, 1])
    assert world.node(holding=[span]) == [span]
    world.client(last_seq=1)
    attached(world, 3)
    world.wait(1.0, b"node")
    assert not world.assigned()
    world.drain((b"node", world.result(0)))
    assert world.results() == [("job", 0, 0)]
    assert set(world.assigned()) == {("job", 2)}


def test_results_of_orphans_wait_for_every_part_of_the_submission(world: World) -> None:
    world.node()
    attached(world, 2)
    world.assigned()
    world.restart()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    both = m.ResultGroup("job", 1, [0, 1], bytes(2), [b"r0", b"r1"], 0.02)
    world.drain((b"node", m.Results(1, [both])))
    world.client()
    attached(world, 1)
    assert world.results() == [("job", 0, 0)]
    attached(world, 1, first=1, closed=True)
    assert world.results() == [("job", 1, 0)]
    world.wait(1.0, b"node")
    assert not world.assigned()


def test_an_orphan_stays_with_its_node_over_a_new_link(world: World) -> None:
    world.restart()
    span = m.Span("job", 1, [0, 1])
    world.node(holding=[span])
    world.drain((b"node", world.result(1)))
    hello = m.WorkerHello(1, "node", b"node".ljust(16, b"_"), 2, 100, [m.Span("job", 1, [0])], {})
    world.drain((b"node2", hello))
    assert world.take(b"node2", m.WorkerWelcome)[0].keep == [m.Span("job", 1, [0])]
    world.client()
    attached(world, 2)
    assert world.results() == [("job", 1, 0)]
    world.drain((b"node2", world.result(0)))
    assert world.results() == [("job", 0, 0)]


def test_an_orphan_that_was_given_back_runs_anew(world: World) -> None:
    world.restart()
    world.node(holding=[m.Span("job", 1, [0])])
    world.drain((b"node", m.Returned([m.Span("job", 1, [0])])))
    world.client()
    attached(world, 1)
    world.wait(1.0, b"node")
    assert set(world.assigned()) == {("job", 0)}


def test_a_closing_that_follows_tasks_which_were_turned_down_does_not_close_the_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit(1, closed=False)
    with monkeypatch.context() as patch:
        patch.setattr(world.journal, "has_room", lambda nbytes: False)
        world.submit(1, first=1, closed=False)
        world.drain((b"client", m.Submit([m.SubmitGroup("job", FUNCTION, None, 2, True, [])])))
    assert [rejected.first for rejected in world.take(b"client", m.Rejected)] == [1, 2]
    answers = [
        [(job.job, job.tasks) for job in said.jobs] for said in world.take(b"client", m.Accepted)
    ]
    assert answers == [[("job", 1)]] * 3, "what there is of it is confirmed with every submission"
    world.submit(1, first=1)
    world.node()
    assert world.run_all() == 2


def test_a_result_of_an_attached_job_that_is_there_in_part_is_kept_for_the_rest(
    world: World,
) -> None:
    world.restart()
    world.client()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    world.submit(1, durable=False, closed=False)
    world.drain((b"node", world.result(1)))
    world.submit(1, first=1, durable=False)
    assert world.results() == [("job", 1, Status.OK)]
    world.drain((b"node", world.result(0)))
    assert world.results() == [("job", 0, Status.OK)]


def test_a_cancellation_of_an_earlier_broker_is_nobodys_wish_now(world: World) -> None:
    world.restart()
    world.client()
    world.node(holding=[m.Span("job", 1, [0])])
    world.submit(1, durable=False)
    world.drain((b"node", world.result(0, status=Status.CANCELLED)))
    assert world.run_all() == 1
    assert world.results() == [("job", 0, Status.OK)]


def test_an_orphan_whose_result_had_no_room_runs_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands_broker.core.peers.orphans.MAX_BYTES", 3)
    world.restart()
    world.node(holding=[m.Span("job", 1, [0])])
    world.drain((b"node", world.result(0)))
    world.client()
    attached(world, 1)
    world.wait(1.0, b"node")
    assert set(world.assigned()) == {("job", 0)}


def test_an_orphan_that_ended_in_an_earlier_life_is_stopped(world: World) -> None:
    world.restart()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    world.client()
    attached(world, 1, first=1)
    assert world.take(b"node", m.Cancel)[0].spans == [m.Span("job", 1, [0])]


def test_orphans_of_a_node_that_is_gone_run_elsewhere(world: World) -> None:
    world.restart()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    world.drain((b"node", world.result(0)), (b"node", m.Bye("")))
    world.client()
    world.node(b"other")
    attached(world, 2)
    world.wait(1.0, b"other")
    assert len(world.assigned(b"other")) == 2


def test_orphans_that_nobody_claims_are_stopped(world: World) -> None:
    world.restart()
    world.node(holding=[m.Span("job", 1, [0])])
    world.wait(world.limits.session_grace + 1, b"node")
    assert world.take(b"node", m.Cancel)[0].spans == [m.Span("job", 1, [0])]
    assert world.node(b"late", holding=[m.Span("job", 1, [7])]) == []


def test_a_session_that_began_afresh_does_not_end_with_the_grace_of_the_one_before(
    world: World,
) -> None:
    world.client(b"guest")
    world.drain()
    world.do(world.core.handle(LinkClosed(b"guest"), world.now))
    again = m.ClientHello(1, b"guest".ljust(16, b"."), "guest", 0, 0, {})
    world.drain((b"again", again), (b"again", m.Ping(1)))
    assert [w.resumed for w in world.take(b"again", m.ClientWelcome)] == [False]
    world.wait(world.limits.session_grace + 1)
    third = m.ClientHello(1, b"guest".ljust(16, b"."), "guest", 0, 0, {})
    world.drain((b"third", third))
    assert [w.resumed for w in world.take(b"third", m.ClientWelcome)] == [True]


@pytest.mark.parametrize("durable", [False, True])
def test_a_function_is_asked_for_again_on_a_new_link(world: World, durable: bool) -> None:
    lacking = m.Need(bytes([9]) * 16)
    options = {"durable": durable}
    group = m.SubmitGroup("job", lacking.digest, options, 0, True, [b"arg"])
    world.drain((b"client", m.Submit([group])))
    assert world.take(b"client", m.Need) == [lacking]
    hello = m.ClientHello(1, b"client".ljust(16, b"."), "client", 0, 0, {})
    world.drain((b"other link", hello))
    assert world.take(b"other link", m.Need) == [lacking]
