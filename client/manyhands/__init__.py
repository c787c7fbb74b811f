"""multiprocessing for many machines: `Pool` and `Executor` over a cluster.

>>> import manyhands
>>> with manyhands.Pool() as pool:
...     pool.map(abs, [-1, -2])
[1, 2]

Everything that users need is here; modules below are private.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from manyhands_shared import __version__

if TYPE_CHECKING:
    from manyhands._progress import progress
    from manyhands._values.store import Ref
    from manyhands.async_executor import AsyncExecutor
    from manyhands.client import Client
    from manyhands.cluster import LocalCluster
    from manyhands.executor import Executor
    from manyhands.job import Job
    from manyhands.options import TaskOptions
    from manyhands.pool import AsyncResult, Pool
    from manyhands.requirements import Requirements
    from manyhands_shared.errors import (
        BrokerUnreachable,
        ClusterClosed,
        ConfigError,
        EnvironmentFailed,
        ManyhandsError,
        NotAuthorised,
        ProcessNotStarted,
        ProgramFailed,
        Refused,
        RemoteError,
        ResultError,
        ResultWithheld,
        SharedStateLost,
        SubmitError,
        SubmitQueueFull,
        SubmitRejected,
        TaskError,
        TaskLost,
        TaskMemoryExceeded,
    )
    from manyhands_shared.standard_errors import (
        InitializerFailed,
        RemoteTraceback,
        ResultNotLoaded,
        TaskCrashed,
        TaskTimeout,
    )

__all__ = [
    "AsyncExecutor",
    "AsyncResult",
    "BrokerUnreachable",
    "Client",
    "ClusterClosed",
    "ConfigError",
    "EnvironmentFailed",
    "Executor",
    "InitializerFailed",
    "Job",
    "LocalCluster",
    "ManyhandsError",
    "NotAuthorised",
    "Pool",
    "ProcessNotStarted",
    "ProgramFailed",
    "Ref",
    "Refused",
    "RemoteError",
    "RemoteTraceback",
    "Requirements",
    "ResultError",
    "ResultNotLoaded",
    "ResultWithheld",
    "SharedStateLost",
    "SubmitError",
    "SubmitQueueFull",
    "SubmitRejected",
    "TaskCrashed",
    "TaskError",
    "TaskLost",
    "TaskMemoryExceeded",
    "TaskOptions",
    "TaskTimeout",
    "__version__",
    "progress",
]

# Where each name lives. They are imported when first asked for, so that the command, which needs few
# of them, starts at once.
_HOMES = {
    "AsyncExecutor": "manyhands.async_executor",
    "AsyncResult": "manyhands.pool",
    "Client": "manyhands.client",
    "Executor": "manyhands.executor",
    "Job": "manyhands.job",
    "LocalCluster": "manyhands.cluster",
    "Pool": "manyhands.pool",
    "Ref": "manyhands._values.store",
    "Requirements": "manyhands.requirements",
    "TaskOptions": "manyhands.options",
    "progress": "manyhands._progress",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "manyhands_shared.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
