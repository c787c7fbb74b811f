"""`multiprocessing` over a cluster: the same program, its processes on any host.

>>> import manyhands.multiprocessing as mp
>>> mp.current_process().name
'MainProcess'

Nothing is connected or started before the first process, or the first use of a shared object. The
cluster is the one that `init` or ``$MANYHANDS_BROKER`` names, else one of the program's own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# What the program changes of its environment counts from now on.
import manyhands.multiprocessing._processes.environment as _environment  # noqa: F401

if TYPE_CHECKING:
    from multiprocessing.context import (
        AuthenticationError,
        BufferTooShort,
        ProcessError,
        TimeoutError,  # noqa: A004 - its name there
    )
    from multiprocessing.util import get_logger, log_to_stderr

    from manyhands.multiprocessing import reduction as reducer
    from manyhands.multiprocessing._processes.membership import init
    from manyhands.multiprocessing._processes.popen import start_all
    from manyhands.multiprocessing.connection import Pipe
    from manyhands.multiprocessing.context import (
        allow_connection_pickling,
        cpu_count,
        freeze_support,
        get_all_start_methods,
        get_context,
        get_start_method,
        set_executable,
        set_forkserver_preload,
        set_start_method,
    )
    from manyhands.multiprocessing.managers import Manager
    from manyhands.multiprocessing.pool import Pool
    from manyhands.multiprocessing.process import (
        Process,
        active_children,
        current_process,
        parent_process,
    )
    from manyhands.multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
    from manyhands.multiprocessing.sharedctypes import Array, RawArray, RawValue, Value
    from manyhands.multiprocessing.synchronize import (
        Barrier,
        BoundedSemaphore,
        Condition,
        Event,
        Lock,
        RLock,
        Semaphore,
    )

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "init",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "start_all",
]

_CONTEXT = "manyhands.multiprocessing.context"
_PROCESS = "manyhands.multiprocessing.process"
_QUEUES = "manyhands.multiprocessing.queues"
_SHAREDCTYPES = "manyhands.multiprocessing.sharedctypes"
_STANDARD = "multiprocessing.context"
_SYNCHRONIZE = "manyhands.multiprocessing.synchronize"
# Where each name lives. They are imported when first asked for.
_HOMES = {
    "Array": _SHAREDCTYPES,
    "AuthenticationError": _STANDARD,
    "Barrier": _SYNCHRONIZE,
    "BoundedSemaphore": _SYNCHRONIZE,
    "BufferTooShort": _STANDARD,
    "Condition": _SYNCHRONIZE,
    "Event": _SYNCHRONIZE,
    "JoinableQueue": _QUEUES,
    "Lock": _SYNCHRONIZE,
    "Manager": "manyhands.multiprocessing.managers",
    "Pipe": "manyhands.multiprocessing.connection",
    "Pool": "manyhands.multiprocessing.pool",
    "Process": _PROCESS,
    "ProcessError": _STANDARD,
    "Queue": _QUEUES,
    "RLock": _SYNCHRONIZE,
    "RawArray": _SHAREDCTYPES,
    "RawValue": _SHAREDCTYPES,
    "Semaphore": _SYNCHRONIZE,
    "SimpleQueue": _QUEUES,
    "SUBDEBUG": "multiprocessing.util",
    "SUBWARNING": "multiprocessing.util",
    "TimeoutError": _STANDARD,
    "Value": _SHAREDCTYPES,
    "active_children": _PROCESS,
    "current_process": _PROCESS,
    "get_logger": "multiprocessing.util",
    "init": "manyhands.multiprocessing._processes.membership",
    "log_to_stderr": "multiprocessing.util",
    "parent_process": _PROCESS,
    "start_all": "manyhands.multiprocessing._processes.popen",
}


#: Modules that are there without being imported; in `multiprocessing` some are so after a first use.
_MODULES = (
    "connection",
    "context",
    "heap",
    "managers",
    "pool",
    "process",
    "queues",
    "reduction",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
)


def __getattr__(name: str) -> Any:
    if name in ("reducer", *_MODULES):
        module = "reduction" if name == "reducer" else name
        value: Any = import_module(f"manyhands.multiprocessing.{module}")
    elif name in _HOMES or name in __all__:
        value = getattr(import_module(_HOMES.get(name, _CONTEXT)), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES} - {"TYPE_CHECKING"})
