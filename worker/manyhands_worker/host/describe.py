"""What a node says about itself in its hello."""

from __future__ import annotations

import math
import os
import platform
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manyhands_shared import __version__, shm
from manyhands_shared.protocol import labels
from manyhands_shared.spinning import available_processors
from manyhands_worker.host.cgroup import cpu_limit, usable_memory


def default_slots() -> int:
    """One for each core that this process may run on, within its control group's quota."""
    cores, quota = available_processors(), cpu_limit()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def describe_host(
    slots: int,
    resources: dict[str, float],
    *,
    safe: bool = False,
    reserve: float = 0.0,
    environments: bool = False,
) -> dict[str, Any]:
    """Versions, host and size of this node. Memory in bytes.

    Args:
        slots: how many the node has; that many cores it offers to tasks, unless it is told otherwise.
        resources: what it was told to offer.
        safe: whether it loads no pickles.
        reserve: share of the memory that is to stay available.
        environments: whether it makes environments for jobs, unless it loads no pickles.
    """
    cloudpickle = _cloudpickle_version()
    memory = usable_memory()
    return {
        "manyhands": __version__,
        "python": platform.python_version(),
        "cloudpickle": cloudpickle,
        "labels": labels.of_node(cloudpickle, safe=safe, environments=environments),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "host_id": shm.host_id(),
        "cpus": available_processors(),
        "cores": os.cpu_count() or 1,
        "memory": memory,
        "memory_reserve": int(memory * reserve),
        "resources": {"cpus": float(slots), "memory": float(memory), **resources},
    }


def _cloudpickle_version() -> str:
    """Read off its metadata directory's name: importing it or `importlib.metadata` takes 25 ms."""
    spec = find_spec("cloudpickle")
    if spec is None or spec.origin is None:
        return ""
    for directory in Path(spec.origin).parent.parent.glob("cloudpickle-*.dist-info"):
        return directory.name.removeprefix("cloudpickle-").removesuffix(".dist-info")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - as said above

    try:
        return version("cloudpickle")
    except PackageNotFoundError:
        return ""
