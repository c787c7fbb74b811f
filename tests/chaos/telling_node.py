"""A node that writes down which process groups its heartbeat process would kill behind it.

The file is ``$MANYHANDS_TEST_GROUPS``. A group is in it as soon as the heartbeat process knows of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from manyhands_worker.__main__ import main
from manyhands_worker.core.events import Event
from manyhands_worker.heartbeat.supervisor import HeartbeatSupervisor

_turn = HeartbeatSupervisor.turn
_groups = Path(os.environ["MANYHANDS_TEST_GROUPS"])


def _telling(self: HeartbeatSupervisor, now: float, pids: list[int]) -> list[Event]:
    is_new = pids != self._pids
    events = _turn(self, now, pids)
    if is_new:
        draft = _groups.with_suffix(".draft")
        draft.write_text(" ".join(map(str, pids)))
        draft.replace(_groups)
    return events


if __name__ == "__main__":
    HeartbeatSupervisor.turn = _telling  # type: ignore[method-assign]
    sys.exit(main())
