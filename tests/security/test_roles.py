"""A key acts in its own role, and rules its own jobs."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import pytest

import manyhands
from harness.cluster.keyed import Keyed
from harness.cluster.peers import CODE, FUNCTION, Peer, client_hello, node_hello
from harness.command import run
from harness.processes import eventually
from manyhands_shared.errors import ConfigError, NotAuthorised
from manyhands_shared.protocol import messages as m
from manyhands_shared.security import role_key
from manyhands_shared.security.role_key import RoleKey

TRUE = hashlib.blake2b(CODE, digest_size=16).digest()


def speak(keyed: Keyed, file: Path) -> Peer:
    """A peer that speaks by hand, with the key in a file."""
    key = role_key.load(file)
    assert isinstance(key, RoleKey)
    return keyed.peer(key.pair)


def submit(peer: Peer, job: str, digest: bytes = TRUE, **options: object) -> None:
    """A job of one task, the function sent along."""
    peer.send(m.Function(digest, "f", [CODE]))
    peer.send(m.Submit([m.SubmitGroup(job, digest, options, 0, True, [b"a"])]))


def error_of(peer: Peer, what: str, **arguments: object) -> tuple[str, object]:
    """What is answered to a query that fails."""
    peer.send(m.Query(7, what, arguments))
    reply = peer.until(m.Reply)
    assert reply.error
    return reply.error, reply.data


def test_one_cluster_key_is_still_enough_for_everything(keyed: Keyed) -> None:
    keyed.node(keyed.cluster_file)
    with manyhands.Executor(address=keyed.broker.address, key_file=keyed.cluster_file) as executor:
        assert executor.submit(pow, 2, 5).result(60) == 32


def test_a_key_for_each_person_and_machine(keyed: Keyed) -> None:
    keyed.node(keyed.key("mill", "worker"))
    with manyhands.Executor(
        address=keyed.broker.address, key_file=keyed.key("alice", "client")
    ) as executor:
        assert executor.submit(pow, 2, 5).result(60) == 32
    with manyhands.Client(keyed.broker.address, key_file=keyed.key("root", "admin")) as admin:
        assert [node["key"] for node in admin.query("nodes")] == ["mill"]


def test_a_clients_key_is_no_nodes(keyed: Keyed) -> None:
    peer = speak(keyed, keyed.key("alice", "client"))
    peer.send(node_hello("false", b"f" * 16))
    assert peer.until(m.Refused).code == "role"
    # Nor may an admin be one: an admin rules jobs, and is given none.
    peer = speak(keyed, keyed.key("root", "admin"))
    peer.send(node_hello("false", b"f" * 16))
    assert peer.until(m.Refused).code == "role"


def test_a_workers_key_submits_nothing(keyed: Keyed) -> None:
    peer = speak(keyed, keyed.key("mill", "worker"))
    peer.send(client_hello())
    assert peer.until(m.Refused).code == "role"
    submit(peer, "job")
    peer.until(m.Who)
    peer.send(node_hello("mill", b"m" * 16))
    peer.until(m.WorkerWelcome)
    submit(peer, "job")
    admin = keyed.peer(keyed.cluster.pair("client"))
    admin.hello()
    assert eventually(lambda: admin.ask("stats")["counters"].get("unexpected_messages", 0) >= 2)
    assert admin.ask("jobs") == []


def test_our_own_parts_say_so_at_once(keyed: Keyed) -> None:
    client, worker = keyed.key("alice", "client"), keyed.key("mill", "worker")
    with pytest.raises(ConfigError, match="keys new FILE --role client"):
        manyhands.Client(keyed.broker.address, key_file=worker)
    node = keyed.node(client)
    assert node.process is not None
    assert node.process.wait(100) == 2
    assert "keys new FILE --role worker" in node.log
    assert "Traceback" not in node.log


def test_what_is_of_others_takes_an_admin(keyed: Keyed) -> None:
    alice, bob = (speak(keyed, keyed.key(name, "client")) for name in ("alice", "bob"))
    admin = speak(keyed, keyed.key("root", "admin"))
    for peer in (alice, bob, admin):
        peer.hello()
    submit(alice, "kept", durable=True)
    alice.until(m.Accepted)
    submit(alice, "lone")
    alice.until(m.Accepted)

    # Everybody sees it, by its owner's name.
    job = bob.ask("job", id="kept")
    assert (job["owner"], job["mine"]) == ("key:alice", False)
    own = ("pause", "resume", "cancel", "forget", "retry", "output", "stacks", "nodes_of")
    for what in own:
        more = {"new_id": "again"} if what == "retry" else {}
        error, data = error_of(bob, what, id="kept", **more)
        assert "is not one of bob's" in error
        assert data == m.DENIED
    # Orders about the cluster, of whatever kind, are not for clients.
    for what in ("backup", "drain", "stacks_of_node", "shutdown", "anything"):
        error, data = error_of(bob, what)
        assert "takes an admin's key" in error
        assert data == m.DENIED
    assert bob.ask("health")["problems"] == []
    assert "no node 'mill'" in error_of(admin, "drain", node="mill")[0]
    # By no other way either: a plain cancellation, more tasks for it, its results, a job that inherits.
    bob.send(m.Cancel([m.Span("lone", 0, []), m.Span("kept", 0, [])]))
    bob.send(m.Submit([m.SubmitGroup("kept", TRUE, None, 1, False, [b"mine"])]))
    assert "another key" in bob.until(m.Rejected).reason
    submit(bob, "heir", durable=True, after=["kept"])
    assert "another key" in bob.until(m.Rejected).reason
    bob.send(m.Attach("kept"))
    states = {job["id"]: (job["state"], job["tasks"]) for job in bob.ask("jobs")}
    assert states == {"kept": ("queued", 1), "lone": ("queued", 1)}

    # Its owner may, over another session too.
    again = speak(keyed, keyed.folder / "alice.key")
    again.hello()
    assert again.ask("pause", id="kept")["paused"]
    assert again.ask("job", id="kept")["mine"]
    # And so may an admin.
    assert not admin.ask("resume", id="kept")["paused"]
    admin.send(m.Cancel([m.Span("lone", 0, [])]))
    assert admin.ask("cancel", id="kept")["cancelled"]
    assert eventually(lambda: {job["state"] for job in admin.ask("jobs")} == {"cancelled"})
    # Whose it was is still known when it is over, and after a restart of the broker.
    assert error_of(bob, "forget", id="kept")[1] == m.DENIED
    keyed.broker.kill()
    keyed.broker.start()
    bob = speak(keyed, keyed.folder / "bob.key")
    bob.hello()
    assert error_of(bob, "output", id="kept")[1] == m.DENIED


def test_results_of_a_job_of_others_are_not_given_out(keyed: Keyed) -> None:
    with (
        manyhands.Client(keyed.broker.address, key_file=keyed.key("alice", "client")) as alice,
        manyhands.Client(keyed.broker.address, key_file=keyed.key("bob", "client")) as bob,
    ):
        job = alice.submit_job(pow, [(2, 3)], durable=True)
        with pytest.raises(NotAuthorised, match="is of key:alice"):
            bob.attach(job.id)
        with pytest.raises(NotAuthorised, match="takes an admin's key"):
            bob.job(job.id).pause()
        keyed.node(keyed.key("mill", "worker"))
        assert alice.attach(job.id).results() == [8]


def test_a_session_is_its_keys_own(keyed: Keyed) -> None:
    token = secrets.token_bytes(16)
    alice, bob = (speak(keyed, keyed.key(name, "client")) for name in ("alice", "bob"))
    alice.hello(token)
    bob.send(client_hello(token))
    assert bob.until(m.Refused).code == "bad-hello"


def test_a_node_is_its_keys_own(keyed: Keyed) -> None:
    mine, other = (speak(keyed, keyed.key(name, "worker")) for name in ("mill", "mule"))
    mine.send(node_hello("node", b"n" * 16))
    mine.until(m.WorkerWelcome)
    other.send(node_hello("node", b"n" * 16))
    # The first lives, so it keeps its name, its boot id and its tasks.
    mine.send(m.Pong(mine.until(m.Ping).counter))
    assert other.until(m.Refused).code == "name-taken"


def test_a_false_function_is_not_kept_for_others(keyed: Keyed) -> None:
    mallory = speak(keyed, keyed.key("mallory", "client"))
    mallory.hello()
    mallory.send(m.Function(TRUE, "f", [b"something else"]))
    mallory.send(m.Function(FUNCTION, "f", [CODE]))
    assert mallory.ask("stats")["counters"]["refused_functions"] == 2
    submit(mallory, "honest")
    assert mallory.ask("job", id="honest")["state"] == "queued"


def test_one_key_opens_a_bounded_number_of_sessions(keyed: Keyed) -> None:
    peer = speak(keyed, keyed.key("alice", "client"))
    for _ in range(256):
        # Each hello over one link leaves the session before it waiting for its client.
        peer.hello(secrets.token_bytes(16))
    peer.send(client_hello(secrets.token_bytes(16)))
    assert "256 sessions" in peer.until(m.Refused).reason
    other = speak(keyed, keyed.key("bob", "client"))
    other.hello()


def test_the_broker_takes_no_key_of_one_person(keyed: Keyed) -> None:
    file = keyed.key("alice", "client")
    assert "a broker takes a cluster key" in run("broker", "--key-file", file).stderr
