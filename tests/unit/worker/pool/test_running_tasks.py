"""What a pool says of tasks that run: as soon as they have for a while, and until they end."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from harness.pool.pool_rig import PoolRig
from harness.processes import Gate, wait_at
from manyhands_worker.core import events
from manyhands_worker.pool.running_tasks import TOLD_SECONDS


def told(rig: PoolRig) -> list[events.Running]:
    return [one for one in rig.events if isinstance(one, events.Running)]


def test_what_runs_is_told_once_and_that_it_runs_no_more(
    rig: Callable[..., PoolRig], tmp_path: Path
) -> None:
    pool, gate = rig(2), Gate(tmp_path / "gate")
    began = time.monotonic()
    [index] = pool.submit(wait_at, gate.path)
    pool.until(lambda: told(pool), "it has run for a while")
    [running] = told(pool)[0].tasks
    assert (running.key, running.task, running.slot) == (("job", 1), index, 0)
    assert began < running.begun <= time.monotonic() - TOLD_SECONDS
    pool.outcome(pool.submit(abs, -1, count=20))
    gate.open()
    pool.outcome([index])
    pool.until(lambda: not told(pool)[-1].tasks, "nothing runs")
    named = [[task[:3] for task in one.tasks] for one in told(pool)]
    assert all(one != following for one, following in pairwise(named)), "what has changed alone"
