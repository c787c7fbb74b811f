"""A root's way to its cluster, and to the agent of its host."""

from __future__ import annotations

import os
from typing import Any

from manyhands._io.connection import Connection
from manyhands._local.subprocesses import Subprocesses
from manyhands_shared import shm
from manyhands_shared.coordination.channel import MemberChannel
from manyhands_shared.errors import ClusterClosed
from manyhands_shared.transport import peer_credentials

_QUERY_SECONDS = 30.0
_OWN_AGENT = "manyhands_worker.agent.own"


class Cluster:
    """The broker that a root is connected to, and the agent that speaks for it.

    Where the root's host has no node, the root has an agent of its own, which relays and ends with it.

    Args:
        address: of the broker; else ``$MANYHANDS_BROKER``; else a cluster of its own is started.
        key_file: the key; else ``$MANYHANDS_KEY_FILE``.

    Raises:
        ConfigError, BrokerUnreachable, NotAuthorised, Refused: the broker does not take us in.
    """

    def __init__(self, address: str | None, key_file: str | os.PathLike[str] | None) -> None:
        self._key_file = key_file or os.environ.get("MANYHANDS_KEY_FILE")
        self._connection = Connection(address, key_file, name="multiprocessing", programs=True)
        self._agents: Subprocesses | None = None

    def connect(self, program: bytes, root: bytes, member_key: bytes) -> MemberChannel:
        """Return a connection to the agent of this host.

        Raises:
            ManyhandsError: the broker does not take the program, or no agent starts.
            OSError: there is no connection to the agent.
            TimeoutError: the broker does not answer.
        """
        asked = {
            "host_id": shm.host_id(),
            "program": program,
            "root": root,
            "member_key": member_key,
        }
        found = self._connection.io.ask("agent", asked).result(_QUERY_SECONDS)
        return MemberChannel(peer_credentials.connect(str(found["address"]) or self._own_agent()))

    @property
    def where(self) -> tuple[str, str]:
        """The broker's address, and the key file; empty without one."""
        return self._connection.address, str(self._key_file or "")

    def members(self) -> set[str]:
        """Return the ids of the members that the broker knows, in hexadecimal.

        Raises:
            ManyhandsError: the broker does not say.
            TimeoutError: it does not answer.
        """
        found: list[dict[str, Any]] = []
        while page := self._connection.io.ask("ps", {"skip": len(found)}).result(_QUERY_SECONDS):
            found += page
        return {str(member["id"]) for member in found}

    def slots(self) -> int:
        """Return how many slots the nodes have together, one at least."""
        return self._connection.slots(None)

    def close(self) -> None:
        """End the connection, the own agent, and the own cluster."""
        if self._agents is not None:
            self._agents.close(drain=False)
        self._connection.abort(ClusterClosed("the program has ended"))

    def _own_agent(self) -> str:
        """Start an agent for this process; return its address."""
        if self._agents is None:
            self._agents = Subprocesses()
        key_file = "" if self._key_file is None else os.path.expanduser(self._key_file)  # noqa: PTH111
        _, ready = self._agents.start_server(
            _OWN_AGENT,
            "host agent",
            works=False,
            agent_json={"broker": self._connection.address, "key_file": str(key_file)},
        )
        return ready.wait()
