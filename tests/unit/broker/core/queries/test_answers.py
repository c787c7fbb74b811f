"""What the broker tells: bounded whatever others call themselves, and withheld where it is not read."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.keyed import KeyedWorld, function, key, submit
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.failure import Failure

ALICE, BOB, NODE, ADMIN = key("alice"), key("bob"), key("node", "worker"), key("root", "admin")

MOST = 4 << 20


@pytest.fixture
def world() -> KeyedWorld:
    made = KeyedWorld(answer_bytes=MOST)
    made.join(b"alice", ALICE)
    made.join(b"bob", BOB)
    made.join(b"root", ADMIN)
    for peer in (b"alice", b"bob"):
        made.say(peer, function())
    return made


def heavy(world: KeyedWorld, jobs: int) -> None:
    """Jobs of alice that ask for long names; some have ended."""
    labels = [f"{number:0199d}" for number in range(32)]
    for number in range(jobs):
        world.say(b"alice", submit(f"job{number}", [b""], needs=labels, name="n" * 200))
        if number % 2:
            world.say(b"alice", m.Cancel([m.Span(f"job{number}", 0, [])]))


def answers(heard: list[Any]) -> list[m.Reply]:
    return [message for message in heard if isinstance(message, m.Reply)]


def test_all_jobs_can_be_read_however_much_they_ask_for(world: KeyedWorld) -> None:
    heavy(world, 500)
    found: list[str] = []
    while page := world.ask("jobs", b"root", skip=len(found)):
        assert len(b"".join(bytes(part) for part in wire.encode(m.Reply(1, "", page)))) < 5 << 18
        found += [job["id"] for job in page]
    assert sorted(found) == sorted(f"job{number}" for number in range(500))


def test_events_and_nodes_can_be_read_however_long_they_are(world: KeyedWorld) -> None:
    for number in range(300):
        labels = [f"{number}-{part:0180d}" for part in range(60)]
        world.work(b"node%d" % number, NODE, labels=labels, host="h" * 5_000, python="3" * 5_000)
        world.say(b"node%d" % number, m.Event("kind", "t" * 4_096, {"a": "b" * 1_000}))
    nodes, events = world.ask("nodes", b"root"), world.ask("events", b"root")
    assert len(nodes) == 300
    assert len(events) > 100
    assert events[-1]["node"] == "node299"
    for data in (nodes, events):
        assert len(b"".join(bytes(part) for part in wire.encode(m.Reply(1, "", data)))) < 4 << 20


def test_what_waiting_jobs_need_is_gathered_once_for_all_nodes(world: KeyedWorld) -> None:
    for number in range(60):
        world.say(b"alice", submit(f"job{number}", [b""], needs=[f"label{number}"]))
        world.work(b"node%d" % number, NODE, labels=["pickle", f"label{number}x"])
    calls = []
    gather = world.core.state.ready.needs
    world.core.state.ready.needs = lambda: calls.append(0) or gather()  # type: ignore[method-assign,func-returns-value]
    assert all(len(node["lacks"]) == 60 for node in world.ask("nodes", b"root"))
    assert len(calls) == 1


def test_a_client_that_does_not_read_gets_no_more_answers(world: KeyedWorld) -> None:
    heavy(world, 300)
    for _ in range(100):
        world.say(b"bob", m.Query(1, "jobs", {}))
    session = world.core.state.sessions[b"bob".ljust(16, b".")]
    assert MOST <= session.answers.nbytes < MOST + (2 << 20)
    assert world.core.state.counters["refused_answers"] > 50
    [refused] = answers(world.say(b"bob", m.Query(7, "jobs", {})))
    assert (refused.request, refused.data) == (7, None)
    assert "the key bob has answers of" in refused.error
    assert world.ask("jobs", b"root"), "which is another key's"


def test_a_client_that_reads_gets_all_its_answers(world: KeyedWorld) -> None:
    heavy(world, 300)
    for number in range(30):
        heard = world.say(b"bob", m.Query(number, "jobs", {}))
        [reply] = answers(heard)
        assert not reply.error
        for ping in [message for message in heard if isinstance(message, m.Ping)]:
            world.say(b"bob", m.Pong(ping.counter))
    assert not world.core.state.counters["refused_answers"]


def test_who_did_not_get_the_ping_cannot_answer_it(world: KeyedWorld) -> None:
    heavy(world, 300)
    for number in range(100):
        world.say(b"bob", m.Query(number, "jobs", {}), m.Pong(number), m.Pong((1 << 64) - 1))
    assert world.core.state.counters["refused_answers"]


def test_a_client_that_asks_on_without_reading_is_cut_off(world: KeyedWorld) -> None:
    world.core.state.sessions[b"bob".ljust(16, b".")].answers.sent(2 * MOST, 5)
    [refused] = [
        message
        for message in world.say(b"bob", m.Query(1, "stats", {}))
        if isinstance(message, m.Refused)
    ]
    assert refused.code == "full"
    assert b"bob".ljust(16, b".") not in world.core.state.sessions


def test_the_last_words_of_tasks_are_for_their_key_and_for_admins(world: KeyedWorld) -> None:
    world.say(b"alice", submit("job", [b"a"], crash_limit=1), submit("other", [b"b"]))
    world.work(b"node", NODE)
    world.say(b"node", m.Event("child-died", "it printed: my password", {}))
    body = Failure("manyhands.TaskCrashed", "it printed: my password").encode()
    world.say(b"node", world.result(0, 1, "job", m.Status.CRASHED, body))
    secret = "my password"
    assert secret in str(world.ask("events", b"root"))
    assert secret in str(world.ask("jobs", b"root"))
    assert secret in str(world.ask("job", b"alice", id="job"))
    assert world.ask("events", b"bob")[0]["kind"] == "child-died"
    for what in ("events", "jobs", "stats", "nodes"):
        assert secret not in str(world.ask(what, b"bob")), what
    assert secret not in str(world.ask("job", b"bob", id="job"))


def test_events_of_a_key_are_taken_at_a_rate(world: KeyedWorld) -> None:
    world.work(b"node", NODE)
    for _ in range(3_000):
        world.say(b"node", m.Event("child-died", "again", {}))
    assert world.core.state.counters["events_child-died"] == 1_000
    assert world.core.state.counters["refused_events"] == 2_000
    world.work(b"honest", key("second", "worker"))
    world.say(b"honest", m.Event("child-died", "once", {}))
    assert world.ask("events", b"root")[-1]["node"] == "honest"


def test_clients_may_look_at_the_tables_of_the_cluster(world: KeyedWorld) -> None:
    world.say(b"alice", submit("job", [b"a"], name="nightly"), submit("other", [b"b"]))
    world.work(b"node", NODE)
    jobs = world.ask("view", b"bob", view="jobs")
    row = dict(zip(jobs["job_columns"], jobs["jobs"]["job"], strict=True))
    assert (row["name"], row["tasks"]) == ("nightly", 1)
    assert list(jobs["jobs"]) == ["other", "job"], "the latest first"
    nodes = world.ask("view", b"bob", view="nodes")
    assert len(nodes["nodes"]) == 1
    assert world.ask("view", b"bob", view="stream", seq=0)["runs"] == []
    for odd in ("job", "overview", "events", ""):
        with pytest.raises(LookupError, match="no view"):
            world.ask("view", b"bob", view=odd)
    with pytest.raises(LookupError, match="takes an argument 'view'"):
        world.ask("view", b"bob")
