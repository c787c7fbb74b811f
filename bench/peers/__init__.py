"""The systems to compare with, each used as its own documentation shows.

Each runs on this machine, with two worker processes of one thread. No setting trades safety for speed or
the reverse.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

WORKERS = int(os.environ.get("BENCH_WORKERS", "2"))


class System(Protocol):
    """A system that runs: started when constructed."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Start one tracked task; returns what waits for its result."""

    def share(self, value: Any) -> Any:
        """Make a large argument known in the way that the system recommends."""

    def chunked_map(self, values: Sequence[int], chunk: int) -> list[int]:
        """`abs` of every value, `chunk` a task. One that has an `Executor.map` which takes chunks
        has an `executor_map` too. One whose futures can be arguments has `after`, which returns the
        future of a task, and `value`, which returns that one's result.
        """

    def close(self) -> None:
        """Stop everything."""


@dataclass(frozen=True)
class Peer:
    """Where a system is found, and what it takes to run it."""

    #: Module of `bench.peers` with a class `Cluster`, a `System`.
    module: str
    #: What pip is given.
    requires: tuple[str, ...] = ()
    #: Distributions whose versions are reported.
    versions: tuple[str, ...] = ()
    #: How it was set up, in a few words.
    settings: str = ""
    #: Its environment; some share one.
    environment: str = ""
    #: Other programs that do, and the Debian package that has one of them.
    programs: tuple[str, ...] = ()
    package: str = ""
    #: Whether it works over a network; the others are for one machine alone.
    networked: bool = True
    #: Whether it is this project, used in another way; the others are what it is compared with.
    ours: bool = False

    def load(self) -> Callable[[], System]:
        """Its class, from an interpreter that has it installed."""
        return importlib.import_module(f"bench.peers.{self.module}").Cluster  # type: ignore[no-any-return]


PEERS: dict[str, Peer] = {
    "manyhands": Peer(
        "manyhands_",
        ("--editable .[all]",),
        ("manyhands", "pyzmq", "msgpack", "numpy"),
        "Executor with its own cluster, broker and node in one process; Pool for map",
        "manyhands",
        ours=True,
    ),
    "manyhands, keyed": Peer(
        "manyhands_keyed",
        ("--editable .[all]",),
        ("manyhands", "pyzmq", "msgpack", "numpy"),
        "the same against a broker with a key on TCP, and a node of its own",
        "manyhands",
        ours=True,
    ),
    "multiprocessing.Pool": Peer(
        "multiprocessing_",
        ("--editable .[all]",),
        ("numpy",),
        "apply_async, map; ProcessPoolExecutor for Executor.map; fork",
        "manyhands",
        networked=False,
    ),
    "loky": Peer("loky_", ("loky",), ("loky",), "get_reusable_executor", "loky", networked=False),
    "Ray": Peer("ray_", ("ray",), ("ray",), "ray.init(num_cpus=2), no dashboard", "ray"),
    "Parsl HTEX": Peer(
        "parsl_", ("parsl",), ("parsl", "pyzmq"), "HighThroughputExecutor, LocalProvider", "parsl"
    ),
    "Dask distributed": Peer(
        "dask_",
        ("distributed",),
        ("distributed",),
        "LocalCluster of processes; chunks of results as bytes",
        "dask",
    ),
    "Celery + Redis": Peer(
        "celery_",
        ("celery[redis]", "packaging"),
        ("celery", "redis"),
        "prefork, results in Redis, pickle; Redis without a disk",
        "celery",
        ("redis-server", "redis-check-rdb"),
        "redis-tools",
    ),
    "ipyparallel": Peer(
        "ipyparallel_",
        ("ipyparallel",),
        ("ipyparallel", "pyzmq"),
        "load-balanced view",
        "ipyparallel",
    ),
    "OpenGRIS Scaler": Peer(
        "scaler_",
        ("opengris-scaler",),
        ("opengris-scaler",),
        "SchedulerClusterCombo",
        "scaler",
    ),
}
