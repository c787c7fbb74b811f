"""`Process`: an operating-system process of the program, on any host of the cluster."""

from __future__ import annotations

import multiprocessing.process
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.process import (
    BaseProcess,
    active_children,
    current_process,
    parent_process,
)
from typing import Any, ClassVar

__all__ = ["BaseProcess", "Process", "active_children", "current_process", "parent_process"]


class Process(BaseProcess):
    """Have the methods and attributes of `multiprocessing.Process`, and their meaning, over a cluster.

    `start` returns when the process runs. It runs once or not at all. The host is the one with the
    fewest processes for each core. What holds an open socket or file stays on this host.

    Args:
        group: None, as in `threading`.
        target: called in the process with `args` and `kwargs`.
        name: what it is called.
        args: positional arguments.
        kwargs: arguments by name.
        daemon: whether it ends with the process that starts it.
        node: the name of a node or host on which it is to run.
    """

    #: For the standard library, which has nothing to do for it.
    _start_method = None
    #: The start method that the process sees, if its context has one.
    _method: ClassVar[str | None] = None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        node: str | None = None,
    ) -> None:
        super().__init__(group, target, name, args, dict(kwargs or {}), daemon=daemon)
        self._node = node

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:  # noqa: N802 - BaseProcess calls it
        from manyhands.multiprocessing._processes.popen import Popen  # noqa: PLC0415 - 60 ms at the first start

        return Popen(process)

    @property
    def host(self) -> str | None:
        """Return the name of the node that it runs on; None before it is started."""
        popen: Any = self._popen  # type: ignore[attr-defined]
        return None if popen is None else popen.node

    def send_signal(self, number: int) -> None:
        """Send it a signal, wherever it runs. `os.kill` means a process of this machine."""
        self._check_closed()  # type: ignore[attr-defined]
        popen: Any = self._popen  # type: ignore[attr-defined]
        popen.send_signal(number)


def __getattr__(name: str) -> Any:
    # Programs read private names of the standard module as well.
    return getattr(multiprocessing.process, name)
