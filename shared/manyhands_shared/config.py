"""The options of each role: plain frozen dataclasses with constraints in their annotations.

Nothing here validates; `settings` does, with pydantic, at the edge where values come from outside.
Processes that manyhands itself starts get values which were validated before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

DEFAULT_PORT = 7711
DEFAULT_BIND = f"tcp://127.0.0.1:{DEFAULT_PORT}"
MIB = 1 << 20

Bytes = Annotated[int, Ge(0)]
Seconds = Annotated[float, Gt(0), Le(86_400)]


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Options of the broker. Times in seconds, sizes in bytes."""

    #: Where to listen. A port of 0 or ``*`` picks a free one.
    bind: str = DEFAULT_BIND
    #: UDP port for heartbeats; 0 takes the number of the TCP port, or a free one if that is taken.
    beat_port: Annotated[int, Ge(0), Le(65_535)] = 0
    #: Key file of the cluster. Needed for every address that is not loopback.
    key_file: str = ""
    #: Make the key file if there is none.
    create_key: bool = False
    #: How long a silent node keeps its attempts.
    lease: Seconds = 15.0
    #: Between two UDP heartbeats of a node.
    beat_interval: Seconds = 1.0
    #: Phi above which a node is suspected (8: one false alarm in 10^8 intervals).
    phi_threshold: Annotated[float, Gt(0), Le(1_000)] = 8.0
    #: How long a vanished client's jobs wait for it to come back.
    session_grace: Seconds = 60.0
    #: Unfinished tasks and bytes that one session may have at the broker.
    window_tasks: Annotated[int, Ge(1)] = 1_000_000
    window_bytes: Annotated[int, Ge(1)] = 1024 * MIB
    #: Result bytes that one session may leave untaken before its tasks wait.
    result_bytes: Annotated[int, Ge(1)] = 256 * MIB
    #: A task that ended this many children or nodes is not run again.
    crash_limit: Annotated[int, Ge(1), Le(1_000)] = 2


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Options of a node. Times in seconds, sizes in bytes."""

    #: The broker's address.
    broker: str = DEFAULT_BIND
    key_file: str = ""
    #: The node's name; empty makes one from host name and boot id.
    name: str = ""
    #: Pool children; 0 is one for each core that this process may use.
    slots: Annotated[int, Ge(0), Le(4_096)] = 0
    #: Tasks that the node holds at once, running and waiting.
    window: Annotated[int, Ge(1), Le(1_000_000)] = 8_192
    #: Size of each child's result slab, at most; less where shared memory is scarce.
    slab_bytes: Bytes = 64 * MIB
    #: How long a drain waits for running tasks before it gives them up.
    drain_timeout: Seconds = 30.0
    #: Send UDP heartbeats.
    beats: bool = True


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Options of a client session. Times in seconds."""

    broker: str = ""
    key_file: str = ""
    name: str = ""
    #: How long to try before a broker counts as unreachable.
    connect_timeout: Seconds = 10.0
    #: Tasks that run at once for this session; 0 is no limit.
    limit: Annotated[int, Ge(0)] = 0
