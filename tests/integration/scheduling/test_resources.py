"""Tasks that take GPUs have their own, and give them back; those that take memory keep to it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from harness.processes import eventually
from manyhands import Executor, LocalCluster
from manyhands_shared.errors import TaskCrashed, TaskMemoryExceeded, TaskTimeout

BOUND = 120.0


def visible() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def stay(place: str, until: int) -> str | None:
    """Say which devices this task has, and end when `until` tasks have said it."""
    file = Path(place, str(os.getpid()))
    file.with_suffix(".part").write_text(visible() or "")
    file.with_suffix(".part").rename(file)
    eventually(lambda: len(said(Path(place))) >= until, BOUND)
    return visible()


def said(place: Path) -> list[str]:
    return sorted(path.read_text() for path in place.iterdir() if not path.suffix)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(place: str) -> None:
    Path(place, "here").touch()
    threading.Event().wait()


def hog(size: int) -> None:
    kept = b"x" * size
    threading.Event().wait()
    del kept


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A node of two GPUs, as a batch system lists them, and more slots."""
    worker = {"resources": "gpu=auto"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b")
        with LocalCluster(nodes=1, slots=4, worker=worker) as started:
            yield started


@pytest.fixture
def executor(cluster: LocalCluster) -> Iterator[Executor]:
    with Executor(address=cluster.address) as started:
        yield started


def taking(executor: Executor, gpu: float) -> Executor:
    return executor.with_options(resources={"gpu": gpu})


def test_two_tasks_at_once_have_a_device_each(executor: Executor, tmp_path: Path) -> None:
    futures = [taking(executor, 1).submit(stay, str(tmp_path), 2) for _ in range(2)]
    assert sorted(str(future.result(BOUND)) for future in futures) == ["3", "GPU-b"]
    assert executor.submit(visible).result(BOUND) == "3,GPU-b", "as the node itself"


def test_halves_share_one(executor: Executor, tmp_path: Path) -> None:
    first = [taking(executor, 0.5).submit(stay, str(tmp_path), 3) for _ in range(2)]
    eventually(lambda: len(said(tmp_path)) == 2, BOUND)
    assert len(set(said(tmp_path))) == 1
    whole = taking(executor, 1).submit(stay, str(tmp_path), 3)
    shared = {future.result(BOUND) for future in first}
    assert len(shared) == 1
    assert shared | {whole.result(BOUND)} == {"3", "GPU-b"}


def test_they_are_given_back_however_a_task_ends(executor: Executor, tmp_path: Path) -> None:
    both = taking(executor, 2)
    with pytest.raises(TaskCrashed):
        both.with_options(crash_limit=1).submit(crash).result(BOUND)
    with pytest.raises(ZeroDivisionError):
        both.submit(divmod, 1, 0).result(BOUND)
    with pytest.raises(TaskTimeout):
        both.with_options(timeout=0.1).submit(wait_for_ever, str(tmp_path)).result(BOUND)
    (tmp_path / "here").unlink(missing_ok=True)
    running = both.submit(wait_for_ever, str(tmp_path))
    eventually((tmp_path / "here").exists, BOUND)
    running.cancel()
    with pytest.raises(CancelledError):
        running.result(BOUND)
    assert both.submit(visible).result(BOUND) == "3,GPU-b"


def test_a_part_beyond_whole_ones_is_refused_before_anything_is_sent(executor: Executor) -> None:
    with pytest.raises(Exception, match=r"whole GPUs or a part of one, and gpu=1\.5 is neither"):
        executor.with_options(resources={"gpu": 1.5})


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_task_has_no_more_memory_than_it_asked_for(executor: Executor) -> None:
    small = executor.with_options(resources={"memory": 2e8})
    with pytest.raises(
        TaskMemoryExceeded, match=r"^(had|wanted) .* than its limit of 200\.0 MB"
    ) as caught:
        small.submit(hog, 400_000_000).result(BOUND)
    assert isinstance(caught.value, MemoryError)
    assert small.submit(abs, -1).result(BOUND) == 1
