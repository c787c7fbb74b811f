"""Row 43: a revoked key is cut off within seconds, an allowed one let in, without a restart."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import manyhands
from harness.cluster.bench import joined
from harness.cluster.keyed import Keyed
from harness.cluster.peers import client_hello, node_hello
from harness.command import run
from harness.processes import Gate, eventually, wait_at
from manyhands_shared.errors import NotAuthorised
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.security import allow_list, role_key
from manyhands_shared.security.allow_list import Allowed
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.security.role_key import RoleKey

#: The broker looks at its list twice a second, and waits one for a farewell. A busy machine is slower.
SECONDS = 60.0


def revoke(keyed: Keyed, name: str) -> None:
    done = run("keys", "revoke", name, "--cluster", keyed.cluster_file)
    assert done.returncode == 0, done.stderr


def test_a_revoked_client_is_cut_off_and_its_work_ends(keyed: Keyed) -> None:
    keyed.node(keyed.cluster_file)
    alice = manyhands.Executor(address=keyed.broker.address, key_file=keyed.key("alice", "client"))
    bob = manyhands.Executor(address=keyed.broker.address, key_file=keyed.key("bob", "client"))
    with bob:
        assert alice.submit(pow, 2, 2).result(60) == 4
        endless = alice.submit(time.sleep, 10_000)
        with manyhands.Client(keyed.broker.address, key_file=keyed.cluster_file) as admin:
            eventually(lambda: admin.query("stats")["active"] == 1)
            revoke(keyed, "alice")
            start = time.monotonic()
            with pytest.raises(NotAuthorised, match="key alice was revoked"):
                endless.result(SECONDS)
            print(f"a revoked client knows after {time.monotonic() - start:.2f} s")
            # What ran for it is killed, so that the slot is free for others.
            assert bob.submit(pow, 2, 3).result(SECONDS) == 8
            assert admin.query("stats")["counters"]["keys_cut"] == 1
    alice.shutdown(wait=False)
    with pytest.raises(NotAuthorised):
        manyhands.Client(keyed.broker.address, key_file=keyed.folder / "alice.key")


def test_a_revoked_node_is_cut_off_and_its_tasks_run_elsewhere(keyed: Keyed) -> None:
    gate = Gate(keyed.folder / "gate")
    gone = keyed.node(keyed.key("mill", "worker"), "gone")
    with (
        manyhands.Client(keyed.broker.address, key_file=keyed.cluster_file) as admin,
        manyhands.Executor(address=keyed.broker.address, key_file=keyed.cluster_file) as executor,
    ):
        joined(admin, 1)
        future = executor.submit(wait_at, gate.path)
        eventually(lambda: admin.query("stats")["active"] == 1)
        keyed.node(keyed.cluster_file, "stays")
        joined(admin, 2)
        revoke(keyed, "mill")
        eventually(lambda: [n["name"] for n in admin.query("nodes")] == ["stays"], SECONDS)
        gate.open()
        assert future.result(60) == "through"
        [job] = admin.query("jobs")
        assert job["story"] == [], "no task is to blame for a revoked key"
    assert gone.process is not None
    assert gone.process.wait(100) == 4
    assert "key mill was revoked" in gone.log
    assert "Traceback" not in gone.log


@pytest.mark.parametrize("role", ["client", "worker"])
def test_who_does_not_leave_is_thrown_out(keyed: Keyed, role: str) -> None:
    """A peer that ignores what it is told has its connection shut down, silent or not."""
    key = role_key.load(keyed.key("mallory", role))
    assert isinstance(key, RoleKey)
    # No reconnecting: what is lost then is this one connection.
    peer = keyed.peer(key.pair, reconnect_ivl=-1)
    monitor = peer.socket.get_monitor_socket()
    hello = client_hello() if role == "client" else node_hello("mallory", b"m" * 16)
    peer.send(hello)
    peer.until(m.ClientWelcome if role == "client" else m.WorkerWelcome)
    while monitor.poll(0):
        monitor.recv_multipart()
    revoke(keyed, "mallory")
    assert peer.until(m.Refused, SECONDS).code == "revoked"
    # Whatever it says now is not even read.
    peer.send(hello)
    peer.send(m.Ping(1))
    assert monitor.poll(SECONDS * 1000), "the connection stands"
    admin = keyed.peer(keyed.cluster.pair("client"))
    admin.hello()
    stats = admin.ask("stats")
    assert (stats["nodes"], stats["sessions"]) == (0, 1)
    while peer.socket.poll(0):
        assert not isinstance(
            wire.decode(peer.socket.recv_multipart()), m.ClientWelcome | m.WorkerWelcome
        )
    peer.socket.disable_monitor()
    monitor.close()
    # And it does not come back.
    again = keyed.peer(key.pair)
    again.send(hello)
    assert again.receive(0.5) is None
    assert "Traceback" not in keyed.broker.log


def test_a_key_is_let_in_while_the_broker_runs(keyed: Keyed) -> None:
    file = keyed.key("alice", "client", allow=False)
    with pytest.raises(NotAuthorised):
        manyhands.Client(keyed.broker.address, key_file=file)
    eventually(lambda: "is not let in" in keyed.broker.log, what="it is told")
    # Once, however often it tries.
    [told] = [line for line in keyed.broker.log.splitlines() if "is not let in" in line]
    key = role_key.load(Path(file))
    assert isinstance(key, RoleKey)
    assert (
        f"a peer at 127.0.0.1 shows a key that is not let in: {role_key.to_hex(key.pair.public)};"
        in told
    )
    done = run("keys", "allow", file, "--cluster", keyed.cluster_file)
    assert done.returncode == 0, done.stderr

    def enters() -> bool:
        try:
            manyhands.Client(keyed.broker.address, key_file=file).close()
        except NotAuthorised:
            return False
        return True

    eventually(enters, SECONDS)


def test_of_another_clusters_key_the_operator_is_told(keyed: Keyed, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    ClusterKey.new().save(other)
    with pytest.raises(NotAuthorised):
        manyhands.Client(keyed.broker.address, key_file=str(other))
    # Such a connection may have ended before its address could be asked for.
    where, why = r"(127\.0\.0\.1|an unknown address)", "its key file is of another cluster"
    told = rf"a peer at {where} is refused in the handshake: {why}\n"
    eventually(lambda: re.search(told, keyed.broker.log), what="it is told")


def test_a_new_role_holds_at_once_and_costs_no_connection(keyed: Keyed) -> None:
    file = keyed.key("alice", "client")
    key = role_key.load(file)
    assert isinstance(key, RoleKey)
    peer = keyed.peer(key.pair)
    peer.hello()
    owner = keyed.peer(keyed.cluster.pair("client"))
    owner.hello()
    owner.submit("job", [b"a"])
    owner.ask("job", id="job")
    peer.send(m.Query(1, "pause", {"id": "job"}))
    assert peer.until(m.Reply).data == m.DENIED
    allow_list.allow(keyed.allowed, Allowed(key.public, "admin", "alice"))

    def paused() -> bool:
        peer.send(m.Query(2, "pause", {"id": "job"}))
        return not peer.until(m.Reply).error

    eventually(paused, SECONDS)


def test_a_list_that_cannot_be_read_cuts_nobody_off_and_lets_nobody_in(keyed: Keyed) -> None:
    key = role_key.load(keyed.key("alice", "client"))
    assert isinstance(key, RoleKey)
    peer = keyed.peer(key.pair)
    peer.hello()
    good = keyed.allowed.read_text()
    keyed.allowed.write_text("this is no list\n")
    eventually(lambda: "stays in force" in keyed.broker.log, SECONDS)
    assert "line 1 of the allow-list" in keyed.broker.log
    peer.ask("stats")
    again = keyed.peer(key.pair)
    again.send(client_hello())
    assert again.receive(0.5) is None, "it may have been taken off"
    admin = keyed.peer(keyed.cluster.pair("client"))
    admin.hello()
    assert keyed.broker.log.count("stays in force") == 1
    keyed.allowed.write_text(good)
    keyed.peer(key.pair).hello()
    peer.ask("stats")
    keyed.allowed.unlink()  # no key is on a list that is not there
    assert peer.until(m.Refused, SECONDS).code == "revoked"


_OUT_OF_DESCRIPTORS = """
import os, resource, sys
from pathlib import Path
from manyhands_broker.auth import DOMAIN, Keyring
from manyhands_shared.security import allow_list
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.security.role_key import RoleKey

place = Path(sys.argv[1])
key = RoleKey.new("client", "alice", "0" * 64)
public = key.pair.public
allow_list.allow(place, allow_list.Allowed(key.public, key.role, key.name))
ring = Keyring(ClusterKey.new(), place)
assert ring.callback(DOMAIN, public)
allow_list.revoke(place, "alice")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    print(ring.callback(DOMAIN, public), ring.refresh())
for descriptor in taken:
    os.close(descriptor)
print(ring.callback(DOMAIN, public), len(ring.refresh().known))
"""


def test_a_list_that_could_not_be_opened_is_opened_later(tmp_path: Path) -> None:
    """Although it does not change again."""
    command = [sys.executable, "-c", _OUT_OF_DESCRIPTORS, str(tmp_path / "list")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "False None\nFalse 2\n", done.stderr
    assert "Too many open files" in done.stderr
