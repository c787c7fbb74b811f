"""What one key may have at the broker, whatever number of sessions, links and nodes it opens."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from harness.worlds.keyed import KeyedWorld, function, key, submit
from manyhands_broker.core import Core, Limits
from manyhands_broker.journal.memory import MemoryJournal
from manyhands_shared.protocol import messages as m

MIB = 1 << 20
ALICE, BOB, NODE = key("alice"), key("bob"), key("node", "worker")


def of(kind: type, heard: list[Any]) -> list[Any]:
    return [message for message in heard if isinstance(message, kind)]


def refused(heard: list[Any]) -> str:
    [reason] = [message.reason for message in heard if isinstance(message, (m.Rejected, m.Refused))]
    return str(reason)


def crowd(world: KeyedWorld, count: int) -> list[bytes]:
    """Sessions of alice, all of whose functions are here."""
    peers = [b"alice%d" % number for number in range(count)]
    for peer in peers:
        world.join(peer, ALICE)
        world.say(peer, function())
    return peers


def test_bytes_are_counted_over_all_sessions_of_a_key() -> None:
    world = KeyedWorld(window_bytes=MIB)
    taken = 0
    for number, peer in enumerate(crowd(world, 8)):
        for part in range(8):
            heard = world.say(peer, submit(f"job{number}-{part}", [bytes(MIB // 4)]))
            if of(m.Rejected, heard):
                assert "the key alice has unfinished tasks of 2.0 MiB" in refused(heard)
                assert "1.0 MiB are allowed" in refused(heard)
                assert "--window-bytes" in refused(heard)
            else:
                taken += 1
    assert taken == 8, "twice the window of the key"
    assert world.core.state.counters["refused_bytes"] == 8 * 8 - taken
    world.join(b"bob", BOB)
    assert not of(m.Rejected, world.say(b"bob", function(), submit("bobs", [bytes(MIB)])))


def test_a_session_within_its_share_is_taken_whatever_others_of_its_key_have() -> None:
    world = KeyedWorld(window_bytes=8 * MIB, window_tasks=80)
    greedy, modest = crowd(world, 2)
    while not of(m.Rejected, world.say(greedy, submit(f"job{random.random()}", [bytes(MIB)]))):
        pass
    assert world.core.state.sessions[greedy.ljust(16, b".")].unfinished_bytes == 16 * MIB
    for number in range(4):
        assert not of(m.Rejected, world.say(modest, submit(f"modest{number}", [bytes(MIB)])))
    assert of(m.Rejected, world.say(modest, submit("more", [bytes(MIB)])))


def test_room_is_there_again_when_tasks_have_ended() -> None:
    world = KeyedWorld(window_bytes=MIB)
    [peer] = crowd(world, 1)
    for number in range(2):
        assert not of(m.Rejected, world.say(peer, submit(f"job{number}", [bytes(MIB)])))
    assert of(m.Rejected, world.say(peer, submit("late", [b"small"])))
    world.say(peer, m.Cancel([m.Span("job0", 0, [])]))
    assert not of(m.Rejected, world.say(peer, submit("again", [b"small"])))


def test_one_task_may_be_larger_than_the_window_while_nothing_else_is_there() -> None:
    world = KeyedWorld(window_bytes=MIB)
    [peer] = crowd(world, 1)
    assert not of(m.Rejected, world.say(peer, submit("large", [bytes(5 * MIB)])))
    assert "6.0" not in refused(world.say(peer, submit("second", [bytes(2 * MIB)])))


def test_tasks_are_counted_over_all_sessions_of_a_key() -> None:
    world = KeyedWorld(window_tasks=100)
    taken = 0
    for number, peer in enumerate(crowd(world, 16)):
        heard = world.say(peer, submit(f"job{number}", [b""] * 50))
        taken += not of(m.Rejected, heard)
    assert taken == 4
    assert world.core.state.counters["refused_tasks"] == 12


def test_what_an_open_job_gets_beyond_the_window_is_turned_down_and_the_rest_goes_on() -> None:
    world = KeyedWorld(window_tasks=10)
    [peer] = crowd(world, 1)
    world.say(peer, submit("job", [b""] * 20, closed=False))
    [rejected] = of(m.Rejected, world.say(peer, submit("job", [b""] * 5, first=20, closed=False)))
    assert (rejected.job, rejected.first) == ("job", 20)
    # What was on its way behind it must not be taken for tasks that follow ended ones, though there may
    # be room by then.
    world.say(peer, m.Cancel([m.Span("job", 0, [18, 19])]))
    [late] = of(m.Rejected, world.say(peer, submit("job", [b""], first=25, closed=False)))
    assert late.first >= 20
    world.work(b"node", NODE, 100)
    assert len(world.assigned(b"node")) == 18


def test_sessions_are_told_their_share_of_the_windows() -> None:
    world = KeyedWorld(window_tasks=1_000, window_bytes=1_000_000)
    shares = {}
    for number in range(5):
        peer = b"alice%d" % number
        for message in of(m.Accepted, world.join(peer, ALICE)):
            shares[peer] = (message.window_tasks, message.window_bytes)
    for number in range(5):
        for message in of(m.Accepted, world.hear(b"alice%d" % number)):
            shares[b"alice%d" % number] = (message.window_tasks, message.window_bytes)
    assert set(shares.values()) == {(125, 125_000)}
    assert len(shares) == 5
    assert not of(m.Accepted, world.join(b"bob", BOB)), "whose window is whole"


def test_functions_are_counted_once_for_each_key_that_uses_them() -> None:
    world = KeyedWorld(function_bytes=10 * MIB)
    [peer] = crowd(world, 1)
    outcomes = []
    for number in range(6):
        code = function(bytes([number]) * (4 * MIB))
        for part in range(2):  # the second job of each costs nothing more
            heard = world.say(peer, code, submit(f"job{number}-{part}", [b""], code.digest))
            outcomes.append(not of(m.Rejected, heard))
    assert outcomes == [True] * 4 + [False] * 8
    [ledger] = [ledger for ledger in world.core.state.ledgers if ledger.key == ALICE.key]
    assert 8 * MIB < ledger.function_bytes < 9 * MIB
    world.say(peer, m.Cancel([m.Span("job0-0", 0, []), m.Span("job0-1", 0, [])]))
    code = function(b"x" * (4 * MIB))
    assert not of(m.Rejected, world.say(peer, code, submit("now", [b""], code.digest)))


@pytest.mark.parametrize("durable", [False, True])
def test_a_job_whose_function_comes_later_and_is_too_much_fails(durable: bool) -> None:
    world = KeyedWorld(function_bytes=MIB)
    [peer] = crowd(world, 1)
    code = function(bytes(2 * MIB))
    assert of(m.Need, world.say(peer, submit("job", [b""], code.digest, durable=durable)))
    world.say(peer, m.Attach("job"))
    heard = world.say(peer, code)
    if durable:
        [results] = of(m.Results, heard)
        assert results.groups[0].statuses == bytes([m.Status.RAISED])
        assert b"--function-bytes" in results.groups[0].bodies[0]
    else:
        assert "--function-bytes" in refused(of(m.Rejected, heard))
    assert "job" not in world.core.state.jobs


def test_what_jobs_ask_for_counts_with_the_functions() -> None:
    world = KeyedWorld(function_bytes=MIB)
    [peer] = crowd(world, 1)
    labels = [f"{number:0190d}" for number in range(32)]
    taken = 0
    for number in range(200):
        taken += not of(m.Rejected, world.say(peer, submit(f"job{number}", [b""], needs=labels)))
    assert 50 < taken < 150


def test_jobs_are_counted() -> None:
    world = KeyedWorld(key_jobs=3)
    one, other = crowd(world, 2)
    for number in range(3):
        assert not of(m.Rejected, world.say(one, submit(f"job{number}", [b""])))
    reason = refused(world.say(other, submit("job3", [b""])))
    assert "the key alice has 3 jobs that are not over, and may have 3" in reason
    assert "--key-jobs" in reason
    world.say(one, m.Bye(""))
    assert not of(m.Rejected, world.say(other, submit("job3", [b""])))


def test_kinds_of_requirements_are_counted_and_leave_room_for_plain_jobs() -> None:
    world = KeyedWorld(key_kinds=10)
    [peer] = crowd(world, 1)
    taken = 0
    for number in range(900):
        heard = world.say(peer, submit(f"job{number}", [b""], needs=[f"label{number}"]))
        taken += not of(m.Rejected, heard)
    assert taken == 10
    assert not of(m.Rejected, world.say(peer, submit("plain", [b""])))
    assert not of(m.Rejected, world.say(peer, submit("same", [b""], needs=["label3"])))


def test_sessions_are_counted() -> None:
    world = KeyedWorld(key_sessions=4)
    for number in range(4):
        assert of(m.ClientWelcome, world.join(b"alice%d" % number, ALICE))
    heard = world.join(b"one-more", ALICE)
    assert "the key alice has 4 sessions open, and may have 4" in refused(heard)
    assert of(m.ClientWelcome, world.join(b"bob", BOB))
    world.say(b"alice0", m.Bye(""))
    assert of(m.ClientWelcome, world.join(b"one-more", ALICE))


def test_nodes_are_counted_and_a_link_is_one_nodes() -> None:
    world = KeyedWorld(key_nodes=3, nodes=5)
    for number in range(3):
        assert of(m.WorkerWelcome, world.work(b"node%d" % number, NODE))
    assert "--key-nodes" in refused(world.work(b"node3", NODE))
    hello = m.WorkerHello(1, "other", b"o" * 16, 1, 1_000, [], {})
    [answer] = of(m.Refused, world.say(b"node0", hello))
    assert answer.code == "bad-hello"
    assert len(world.core.state.fleet) == 3
    other = key("second", "worker")
    assert of(m.WorkerWelcome, world.work(b"other0", other))
    assert of(m.WorkerWelcome, world.work(b"other1", other))
    assert "its most" in refused(world.work(b"other2", other))


def run(world: KeyedWorld, most: int, body: bytes = b"") -> list[str]:
    """Have the node end what it is given, each task after half a second; the jobs, in order."""
    order: list[str] = []
    while len(order) < most and (given := world.assigned(b"node")):
        for (job, index), (attempt, _) in given.items():
            order.append(job)
            world.now += 0.5
            group = m.ResultGroup(job, attempt, [index], b"\0", [body], 0.5)
            world.say(b"node", m.Results(1, [group]))
    return order


def test_results_left_untaken_are_counted_over_all_sessions_of_a_key() -> None:
    world = KeyedWorld(result_bytes=MIB)
    peers = crowd(world, 16)
    world.work(b"node", NODE, 1)
    for number, peer in enumerate(peers):
        world.say(peer, submit(f"job{number}", [b""] * 20))
    ran = run(world, 320, bytes(MIB // 4))
    ledger = world.core.state.sessions[peers[0].ljust(16, b".")].ledger
    assert 4 * MIB <= ledger.unacked < 5 * MIB, "and not sixteen times that of a session"
    assert len(ran) < 20
    while len(ran) < 320:  # those that take theirs go on
        before = len(ran)
        for peer in peers:
            world.say(peer, m.Ack(1 << 40))
        ran += run(world, 320, bytes(MIB // 4))
        assert len(ran) > before
    assert set(Counter(ran).values()) == {20}


def test_the_share_is_the_keys_however_many_sessions_it_opens() -> None:
    world = KeyedWorld()
    peers = crowd(world, 40)
    world.join(b"bob", BOB)
    world.say(b"bob", function())
    for number, peer in enumerate(peers):
        world.say(peer, submit(f"job{number}", [b""] * 100))
    world.say(b"bob", submit("bobs", [b""] * 200))
    world.work(b"node", NODE, 2)
    ran = run(world, 200)
    assert 90 <= ran.count("bobs") <= 110
    assert len(set(ran)) == 41, "and among them all sessions have their turn"


def test_a_priority_among_others_is_capped_by_the_key() -> None:
    world = KeyedWorld()
    world.join(b"alice", ALICE)
    world.join(b"bob", BOB)
    for peer in (b"alice", b"bob"):
        world.say(peer, function())
    world.say(b"alice", submit("low", [b""] * 50), submit("high", [b""] * 50, priority=1_000))
    world.say(b"bob", submit("bobs", [b""] * 50))
    world.work(b"node", NODE, 1)
    order = run(world, 150)
    assert len(order) == 150
    assert 15 <= order[:40].count("bobs") <= 25, "as often as all of the other key's"
    assert order.index("low") > max(place for place, job in enumerate(order) if job == "high")


def test_an_admin_may_let_a_key_have_a_priority() -> None:
    world = KeyedWorld()
    world.join(b"alice", key("alice", priority=7))
    world.join(b"bob", BOB)
    for peer in (b"alice", b"bob"):
        world.say(peer, function())
    world.say(b"bob", submit("bobs", [b""] * 10))
    world.say(b"alice", submit("urgent", [b""] * 10, priority=9))
    assert world.core.state.jobs["urgent"].priority == 7
    world.work(b"node", NODE, 1)
    order = run(world, 150)
    assert order == ["urgent"] * 10 + ["bobs"] * 10


def test_durable_jobs_of_a_key_that_was_away_count_again() -> None:
    """The key has nothing here in between, and so no ledger either."""
    world = KeyedWorld()
    world.join(b"before", ALICE)
    world.say(b"before", function(), submit("one", [b"x"], durable=True))
    world.say(b"before", m.Cancel([m.Span("one", 0, [])]), m.Bye(""))
    assert not [ledger for ledger in world.core.state.ledgers if ledger.key]
    world.join(b"after", ALICE)
    world.say(b"after", function(), submit("two", [b"x"], durable=True))
    [ledger] = [ledger for ledger in world.core.state.ledgers if ledger.key]
    assert (ledger.jobs, ledger.stored) == (1, 1)


def test_numbers_that_clients_must_not_guess_come_from_the_system() -> None:
    core = Core(Limits(), bytes(16), MemoryJournal(), 0.0)
    # Of any other generator a client that has seen some hundreds knows the next ones.
    assert isinstance(core.state.random, random.SystemRandom)
