"""Managers over a cluster: the standard ones, with a server that any process of the program reaches.

The server runs beside the process that makes it where a node is, else on any host. Its address is known
to the program alone. With an address of the user's it is the standard server, and runs on this host.
"""

from __future__ import annotations

import threading
from importlib import import_module
from multiprocessing import managers as _standard
from multiprocessing.managers import BaseProxy, Token
from typing import Any, ClassVar

from manyhands.multiprocessing._processes import agent_listener
from manyhands.multiprocessing.context import Context, get_context
from manyhands.multiprocessing.process import Process
from manyhands_shared.processes import thread_start

__all__ = ["BaseManager", "BaseProxy", "SyncManager", "Token"]

_SERIALIZER = agent_listener.SERIALIZER


class _Beside(Process):
    """A manager's server: on this host if a node is here."""

    _placing = "beside"


class _Near(Process):
    """A manager's server at an address of this host."""

    _placing = "near"


# Users see it in the process's `repr`.
_Beside.__name__ = _Near.__name__ = Process.__name__


class _BesideContext(Context):
    Process = _Beside


class _NearContext(Context):
    Process = _Near


class Server(_standard.Server):
    """The standard library's server; at its own address, the program's secret is its key."""

    def __init__(self, registry: Any, address: Any, authkey: bytes, serializer: str) -> None:
        if serializer == _SERIALIZER:
            authkey = agent_listener.authkey()
        super().__init__(registry, address, authkey, serializer)

    def accepter(self) -> None:
        """Serve each connection in a thread of its own; close those that the system gives none for."""
        while True:
            try:
                connection = self.listener.accept()  # type: ignore[attr-defined]
            except OSError:
                continue
            serve = threading.Thread(target=self.handle_request, args=(connection,), daemon=True)
            if not thread_start.start(serve):
                connection.close()


class BaseManager(_standard.BaseManager):
    """The standard library's `BaseManager`, whose server any process of the program can reach.

    Args:
        address: where it listens; by default an address that the program alone can use.
        authkey: the key for an address of one's own.
        serializer: of an address of one's own.
        ctx: a context.
        options: the rest of the standard library's.
    """

    _Server = Server

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        **options: Any,
    ) -> None:
        own = serializer == "pickle" and (address is None or agent_listener.is_address(address))
        if ctx is None or isinstance(ctx, Context):
            ctx = _BesideContext() if own else _NearContext()
        serializer = _SERIALIZER if own else serializer
        super().__init__(address, authkey, serializer, ctx, **options)  # type: ignore[call-arg, unused-ignore]

    def get_server(self) -> Server:
        """Return a server for this process to run.

        Raises:
            ProcessError: it was started already, or is over.
        """
        manager: Any = self
        if manager._state.value != _standard.State.INITIAL:  # type: ignore[attr-defined]
            # It raises.
            super().get_server()
        return self._Server(
            manager._registry, manager._address, manager._authkey, manager._serializer
        )


class SyncManager(BaseManager, _standard.SyncManager):
    """The standard library's `SyncManager`, whose objects any process of the program can use."""

    # Of its own: registering with `BaseManager` does not change it.
    _registry: ClassVar[dict[str, Any]] = dict(_standard.SyncManager._registry)  # type: ignore[attr-defined]


def Manager() -> SyncManager:  # noqa: N802 - multiprocessing's name
    """Return a manager whose server runs."""
    manager = SyncManager(ctx=get_context())
    manager.start()
    return manager


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("SharedMemoryManager", "SharedMemoryServer"):
        return getattr(import_module("manyhands.multiprocessing._memory.manager"), name)
    return getattr(import_module("multiprocessing.managers"), name)
