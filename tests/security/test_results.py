"""Who gets large results from nodes: with keys of roles, and when one of them is revoked."""

from __future__ import annotations

import numpy as np
import pytest
import zmq

import manyhands
from harness.cluster.bench import abandon, joined
from harness.cluster.keyed import Keyed
from harness.cluster.peers import Peer
from harness.command import run
from harness.processes import eventually
from manyhands._io import transfers
from manyhands._session.effects import Fetch
from manyhands_shared import shm
from manyhands_shared.protocol.held_result import Server, Ticket
from manyhands_shared.protocol.messages import Part, Pull
from manyhands_shared.security.cluster_key import KeyPair
from manyhands_shared.security.role_key import to_z85

pytestmark = pytest.mark.skipif(not shm.host_id(), reason="memory is lent on Linux only")

SECONDS = 60.0
ITEMS = 1 << 20


def test_a_revoked_client_gets_nothing_from_nodes_any_more(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut off at the broker, which cancels what is its; the node then knows its key no more."""
    held: list[Fetch] = []
    monkeypatch.setattr(transfers.Transfers, "fetch", lambda _, wanted: held.append(wanted))
    keyed.node(keyed.key("mill", "worker"), data_address="127.0.0.1")
    with manyhands.Client(keyed.broker.address, key_file=keyed.cluster_file) as admin:
        joined(admin, 1)
    alice = manyhands.Executor(address=keyed.broker.address, key_file=keyed.key("alice", "client"))
    keyed.bench.stack.callback(abandon, alice)

    def ticket() -> Ticket | None:
        """Of a result that is held; the node may not serve from the first moment on."""
        alice.submit(np.ones, ITEMS)
        eventually(lambda: held, what="a result is held")
        found = Ticket.decode(held.pop().ticket)
        return found if found.server is not None else None

    offered = eventually(ticket, what="the node serves")
    assert offered is not None
    assert offered.server is not None
    direct = alice._connection.io._transfers._remote
    assert direct is not None
    pair = direct._pair
    connected = connect(keyed, offered.server, pair)
    assert serves(connected, offered)
    # The key of the cluster's clients opens the broker, and no node.
    for other in (keyed.cluster.pair("client"), KeyPair(*zmq.curve_keypair())):
        assert ask(connect(keyed, offered.server, other), offered) is None

    done = run("keys", "revoke", "alice", "--cluster", keyed.cluster_file)
    assert done.returncode == 0, done.stderr
    eventually(lambda: not serves(connected, offered), SECONDS, what="she gets nothing")
    assert ask(connect(keyed, offered.server, pair), offered) is None
    assert "Traceback" not in keyed.bench.nodes[0].log


def connect(keyed: Keyed, server: Server, pair: KeyPair) -> Peer:
    return keyed.peer(pair, to_z85(server.key.hex()), f"tcp://{server.address}:{server.port}")


def ask(peer: Peer, ticket: Ticket, timeout: float = 0.5) -> Part | None:
    peer.send(Pull(ticket.key, 0, 64))
    answer = peer.receive(timeout)
    assert answer is None or isinstance(answer, Part)
    return answer


def serves(peer: Peer, ticket: Ticket) -> bool:
    answer = ask(peer, ticket, 100.0)
    assert answer is not None
    return bool(answer.bodies)
