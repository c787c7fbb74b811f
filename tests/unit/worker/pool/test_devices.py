"""A task sees its own devices, and the child has the variables of before afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from harness.pool.pool_rig import PoolRig
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.model import Rules
from manyhands_worker.host.gpus import Gpus

TWO = Gpus({"4": 1.0, "GPU-x": 1.0})


def seen() -> tuple[str | None, str | None, int]:
    """What the variables say, and which child it is."""
    find = os.environ.get
    return find("CUDA_VISIBLE_DEVICES"), find("ROCR_VISIBLE_DEVICES"), os.getpid()


def seen_by_a_program() -> str:
    show = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    return subprocess.run(
        [sys.executable, "-c", show], capture_output=True, check=True, text=True
    ).stdout.strip()


def spoil() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "all"
    del os.environ["ROCR_VISIBLE_DEVICES"]
    raise ValueError("it fails, too")


def run(rig: PoolRig, task: Callable[[], object], gpu: float) -> tuple[int, object]:
    return rig.outcome(rig.submit(task, rules=Rules(gpu=gpu)))[0]


def test_a_task_and_its_programs_see_its_devices_alone(rig: Callable[..., PoolRig]) -> None:
    pool = rig(gpus=TWO)
    status, found = run(pool, seen, 1.0)
    assert (status, found) == (Status.OK, ("4", "4", pool.pool.pid(0)))
    assert run(pool, seen_by_a_program, 0.5) == (Status.OK, "4")


@pytest.mark.parametrize("before", [None, "7,8"])
def test_what_was_there_before_is_there_again(
    rig: Callable[..., PoolRig], monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    pool = rig(gpus=TWO)

    def prepare() -> int:
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
        else:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        return os.getpid()

    child = pool.call(prepare)[1]
    assert run(pool, spoil, 1.0)[0] == Status.RAISED
    assert pool.call(seen) == (Status.OK, (before, None, child))


def test_a_child_that_has_seen_a_device_never_sees_others(rig: Callable[..., PoolRig]) -> None:
    pool = rig(gpus=TWO)
    first = run(pool, seen, 1.0)[1]
    assert run(pool, seen, 0.5)[1] == first
    both = run(pool, seen, 2.0)[1]
    assert isinstance(first, tuple)
    assert isinstance(both, tuple)
    assert both[:2] == ("4,GPU-x", "4,GPU-x")
    assert both[2] != first[2], "a library would go on with the device that it has found first"
