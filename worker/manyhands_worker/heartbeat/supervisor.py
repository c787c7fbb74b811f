"""Keeping the heartbeat process alive."""

from __future__ import annotations

import math
import selectors
import time
from collections.abc import Sequence
from multiprocessing import util
from multiprocessing.connection import wait
from pathlib import Path

from manyhands_worker.core import events
from manyhands_worker.heartbeat.process import Heartbeat, SharedStatus, Target
from manyhands_worker.host.directories import mend
from manyhands_worker.host.processes import reap

_RESTART_DELAY = 0.5
_LEAVE_SECONDS = 2.0


class HeartbeatSupervisor:
    """Starts the heartbeat process, and again whenever it died.

    Without `beats` the process sends nothing, but still sweeps up behind a node that was killed.
    """

    def __init__(
        self,
        boot_id: bytes,
        selector: selectors.BaseSelector,
        *,
        beats: bool,
        cgroups: Sequence[Path] = (),
    ) -> None:
        self.status = SharedStatus()
        self._boot_id = boot_id
        self._selector = selector
        self._beats = beats
        self._cgroups = cgroups
        self._process: Heartbeat | None = None
        self._pids: list[int] = []
        self._events: list[events.Event] = []
        self._start_at = 0.0

    @property
    def deadline(self) -> float:
        """When `turn` has something to do."""
        return self._start_at

    @property
    def pid(self) -> int:
        """Process id of the heartbeat; 0 if there is none just now."""
        return (self._process.pid or 0) if self._process is not None else 0

    def aim(self, target: Target) -> None:
        """Send heartbeats to `target` from now on."""
        if self._beats:
            self.status.aim(target)

    def turn(self, now: float, pids: list[int]) -> list[events.Event]:
        """Start the process if it is time; note the pool's children. Returns what happened."""
        if pids is not self._pids and pids != self._pids:
            self._pids = pids
            self.status.set_children(pids)
        if now >= self._start_at:
            self._start(now)
        events, self._events = self._events, []
        return events

    def _start(self, now: float) -> None:
        try:
            self._process = Heartbeat.launch(
                self.status, self._boot_id, util.get_temp_dir(), self._cgroups
            )
        except (OSError, EOFError) as error:
            mended = mend()
            self._start_at = now + _RESTART_DELAY
            text = "; ".join([f"cannot start the heartbeat process: {error}", *mended])
            self._events.append(events.Trouble("heartbeat-failed", text))
            return
        self._start_at = math.inf
        self._selector.register(
            self._process.sentinel, selectors.EVENT_READ, lambda _: self._died()
        )

    def _died(self) -> None:
        process = self._process
        if process is None:
            return
        self._selector.unregister(process.sentinel)
        pid, how = process.pid, reap(process)
        text = f"heartbeat process {pid} {how}; starting another"
        self._events.append(events.Trouble("heartbeat-died", text))
        self._process = None
        self._start_at = time.monotonic() + _RESTART_DELAY

    def close(self) -> None:
        """End the heartbeat process and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            self._selector.unregister(process.sentinel)
            process.kill()
            if wait([process.sentinel], timeout=_LEAVE_SECONDS):
                process.join()
                process.close()
