"""A process of the broker's beside its loop, which ends with the broker however that ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal

from manyhands_broker.descriptor_reserve import reserve
from manyhands_shared.processes.lifecycle import die_with_parent
from manyhands_shared.processes.start_without_main import bare_start

log = logging.getLogger("manyhands.broker")

_CONTEXT = multiprocessing.get_context("spawn")


class ServiceProcess(_CONTEXT.Process):  # type: ignore[name-defined,misc]
    """Serves in `serve` until its parent, the broker, is gone."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._parent = os.getpid()

    def start(self) -> None:
        """Start it as a process.

        Raises:
            OSError: the system gives none.
        """
        with bare_start():
            super().start()

    def try_start(self, called: str) -> bool:
        """Start it, with descriptors kept for that; false, and a line in the log, if that cannot be."""
        try:
            with reserve():
                self.start()
        except OSError as error:
            log.warning("%s cannot start: %s; trying again", called, error)
            return False
        return True

    def run(self) -> None:
        """Serve until the broker is gone. SIGINT is the broker's to answer."""
        die_with_parent(self._parent)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.serve()

    def parent_is_gone(self) -> bool:
        """Whether the broker has ended, where the kernel does not kill this process then."""
        return os.getppid() != self._parent

    def serve(self) -> None:
        """Do the work of this process; return once `parent_is_gone`."""
        raise NotImplementedError
