"""A process of the broker's, which ends with it."""

from __future__ import annotations

import multiprocessing
import os
import signal

from manyhands_shared.processes.lifecycle import die_with_parent
from manyhands_shared.processes.start_without_main import bare_start

_CONTEXT = multiprocessing.get_context("spawn")


class ChildProcess(_CONTEXT.Process):  # type: ignore[name-defined,misc]
    """Runs `serve` in a process of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._parent = os.getpid()

    def start(self) -> None:
        """Start the process.

        Raises:
            OSError: the system gives none.
        """
        with bare_start():
            super().start()

    def run(self) -> None:
        """Serve until the broker is gone."""
        die_with_parent(self._parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.serve()

    def serve(self) -> None:
        """Do the work; return once `orphaned`, where the kernel does not end this process."""
        raise NotImplementedError

    @property
    def orphaned(self) -> bool:
        """Whether the broker is gone."""
        return os.getppid() != self._parent
