"""The options of each role: plain frozen dataclasses with constraints in their annotations.

Nothing here validates; `manyhands.cli` does, with pydantic, at the edge where values come from outside.
Processes that manyhands itself starts get values which were validated before. The text in an
annotation says what the option does; the command's help shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from manyhands_shared.transport.address import DEFAULT_BIND

if TYPE_CHECKING:
    from annotated_types import Ge, Gt, Le, MaxLen

MIB = 1 << 20


class _Bound:
    """Stands for a constraint where only types and help texts are looked at."""

    def __init__(self, _: object) -> None:
        """Keep nothing."""


def hints(kind: type) -> dict[str, Any]:
    """The types of an options dataclass's fields, with their help texts. Constraints are opaque."""
    opaque = dict.fromkeys(("Ge", "Gt", "Le", "MaxLen"), _Bound)
    return get_type_hints(kind, localns=opaque, include_extras=True)


def constraints(kind: type) -> dict[str, Any]:
    """The same, with the constraints."""
    # 10 ms that most commands should not pay
    import annotated_types  # noqa: PLC0415

    return get_type_hints(kind, localns=vars(annotated_types), include_extras=True)


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Options of the broker. Times in seconds, sizes in bytes."""

    bind: Annotated[
        str, "Where to listen, or several places with commas; port 0 or * picks a free one."
    ] = DEFAULT_BIND
    any_port: Annotated[bool, "If that port is taken, listen on a free one."] = False
    beat_port: Annotated[
        int,
        Ge(0),
        Le(65_535),
        "UDP port for heartbeats; 0 takes the TCP port's number, or a free one if that is taken.",
    ] = 0
    http: Annotated[str, "HOST:PORT for metrics, scale and health over HTTP; empty is nowhere."] = (
        ""
    )
    http_hosts: Annotated[
        str, "Names, comma-separated, by which that may be asked, beside localhost and addresses."
    ] = ""
    key_file: Annotated[
        str, "Key file of the cluster; needed for every address that is not loopback."
    ] = ""
    allow_file: Annotated[
        str,
        "List of further keys that may connect (see manyhands keys); else the key file's name "
        "with .allowed behind it.",
    ] = ""
    create_key: Annotated[bool, "Make the key file if there is none."] = False
    lease: Annotated[float, Ge(0.01), Le(86_400), "How long a silent node keeps its attempts."] = (
        15.0
    )
    beat_interval: Annotated[
        float, Ge(0.001), Le(86_400), "Between two UDP heartbeats of a node."
    ] = 1.0
    phi_threshold: Annotated[
        float,
        Gt(0),
        Le(1_000),
        "Phi above which a node is suspected (8: one false alarm in 10^8 intervals).",
    ] = 8.0
    session_grace: Annotated[
        float, Gt(0), Le(86_400), "How long a vanished client's jobs wait for it to come back."
    ] = 60.0
    window_tasks: Annotated[
        int,
        Ge(1),
        Le(1 << 50),
        "Unfinished tasks that the sessions of one key may have at the broker.",
    ] = 1_000_000
    window_bytes: Annotated[
        int, Ge(1), Le(1 << 50), "Bytes of unfinished tasks that they may have at the broker."
    ] = 1024 * MIB
    stored_tasks: Annotated[int, Ge(1), "Unfinished tasks of durable jobs of one key."] = 20_000_000
    function_bytes: Annotated[
        int, Ge(1), "Bytes of functions and options of one key's unfinished jobs."
    ] = 256 * MIB
    key_jobs: Annotated[int, Ge(1), "Unfinished jobs of one key."] = 100_000
    key_kinds: Annotated[
        int, Ge(1), Le(1_000), "Kinds of requirements (resources and labels) of one key's jobs."
    ] = 64
    key_sessions: Annotated[
        int, Ge(1), "Sessions of one key; sixteen times as many of all without a key of their own."
    ] = 256
    key_nodes: Annotated[int, Ge(1), "Nodes of one key."] = 4_096
    result_bytes: Annotated[
        int, Ge(1), "Result bytes that one session may leave untaken before its tasks wait."
    ] = 256 * MIB
    crash_limit: Annotated[
        int, Ge(1), Le(1_000), "A task that ended this many children or nodes is not run again."
    ] = 2
    journal: Annotated[
        str, "Directory for durable jobs; without one they live as long as the broker."
    ] = ""
    keep_results: Annotated[
        float, Gt(0), "Seconds for which durable jobs are kept after their end."
    ] = 7 * 86_400.0
    coordination_dir: Annotated[
        str,
        "Directory for the log of locks, queues and processes; else one in the journal's, or in "
        "$XDG_RUNTIME_DIR. Without any these end with the broker.",
    ] = ""
    coordination_bytes: Annotated[
        int,
        Ge(0),
        Le(1 << 50),
        "Bytes of all locks and queues of programs; 0 is a quarter of the memory.",
    ] = 0


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Options of a node. Times in seconds, sizes in bytes."""

    broker: Annotated[str, "The broker's address, or several to try in turn."] = DEFAULT_BIND
    key_file: Annotated[str, "Key file of the cluster."] = ""
    name: Annotated[
        str, MaxLen(200), "The node's name; empty makes one from host name and boot id."
    ] = ""
    slots: Annotated[
        int, Ge(0), Le(4_096), "Pool children; 0 is one for each core this process may use."
    ] = 0
    resources: Annotated[
        str,
        "What tasks may ask for here, as gpu=2,label=1; gpu=auto finds the GPUs, cpus and memory are "
        "filled in.",
    ] = ""
    safe: Annotated[
        str,
        "Run only functions on this list, as in math:*,package.jobs:score, with plain arguments, and "
        "load no pickle.",
    ] = ""
    window: Annotated[
        int, Ge(1), Le(65_536), "Tasks that the node holds at once, running and waiting."
    ] = 8_192
    slab_bytes: Annotated[
        int, Ge(0), "Each child's result slab, at most; less where shared memory is scarce."
    ] = 64 * MIB
    drain_timeout: Annotated[
        float,
        Gt(0),
        Le(86_400),
        "How long a drain waits for running tasks before it gives them up.",
    ] = 30.0
    idle_timeout: Annotated[float, Ge(0), "Leave after this time without a task; 0 is never."] = 0.0
    time_limit: Annotated[
        float, Ge(0), "Drain this long after the start, whatever there is to do; 0 is never."
    ] = 0.0
    memory_reserve: Annotated[
        float,
        Ge(0),
        Le(1),
        "Share of its memory below which, when no more is available, the node gets nothing new "
        "while another can take it; 0 is never.",
    ] = 0.05
    processes: Annotated[
        int,
        Ge(0),
        Le(65_535),
        "Processes of programs (manyhands.multiprocessing) that may run here at once; 0 is none.",
    ] = 1_000
    agent_at_start: Annotated[
        bool, "Start the host agent with the node, not with the first program that needs it."
    ] = False
    discard_output: Annotated[
        bool,
        "What tasks print goes nowhere here; their clients get it, unless they do not want it.",
    ] = False
    environments: Annotated[
        bool, "Install what jobs require, in environments of their own, and run their tasks there."
    ] = True
    environments_dir: Annotated[
        str,
        "Directory for these environments; empty is manyhands/environments in the user's cache.",
    ] = ""
    beats: Annotated[bool, "Send UDP heartbeats."] = True
    direct: Annotated[
        bool,
        "With a key: let clients of other hosts fetch large results from here, not the broker.",
    ] = True
    data_address: Annotated[
        str, "Where to listen for them; empty is the address by which the broker is reached."
    ] = ""
    data_port: Annotated[
        int, Ge(0), Le(65_535), "TCP port to listen on for them; 0 takes a free one."
    ] = 0


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Options of a client session. Times in seconds."""

    broker: Annotated[str, "The broker's address, or several to try in turn."] = ""
    key_file: Annotated[str, "Key file of the cluster."] = ""
    name: Annotated[str, MaxLen(200), "What the session is called where sessions are listed."] = ""
    connect_timeout: Annotated[
        float,
        Gt(0),
        Le(86_400),
        "How long to try before a broker counts as unreachable; if not given, 2s where nothing listens.",
    ] = 10.0
    limit: Annotated[
        int, Ge(0), Le((1 << 32) - 1), "Tasks that run at once for this session; 0 is no limit."
    ] = 0
