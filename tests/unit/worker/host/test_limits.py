"""What the system allows a node, and what it says when the system kills for lack of memory."""

from __future__ import annotations

import math
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.brokers.node_broker import FakeBroker, NodeProcess
from harness.processes import eventually, without_waits
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status
from manyhands_shared.spinning import available_processors
from manyhands_worker.host import cgroup, describe
from manyhands_worker.pool.oom import OomDetector

_MIB = 1 << 20


def _fake_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> Path:
    proc = tmp_path / "proc"
    proc.write_text(lines)
    root = tmp_path / "cgroup"
    groups = cgroup._groups
    monkeypatch.setattr(cgroup, "_groups", lambda name: groups(name, str(root), str(proc)))
    return root


def test_limits_of_control_groups_version_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _fake_groups(tmp_path, monkeypatch, "0::/outer/inner\n")
    inner = root / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "cpu.max").write_text("max 100000\n")
    assert cgroup.memory_limit() is None
    assert cgroup.cpu_limit() is None
    (root / "outer" / "memory.max").write_text(f"{300 * _MIB}\n")
    (inner / "memory.max").write_text(f"{400 * _MIB}\n")
    (inner / "cpu.max").write_text("150000 100000\n")
    assert cgroup.memory_limit() == 300 * _MIB
    assert cgroup.cpu_limit() == 1.5


def test_limits_of_control_groups_version_1_in_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The paths are those of the host; inside, the groups are at the top.
    lines = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n"
    root = _fake_groups(tmp_path, monkeypatch, lines)
    for name in ("memory", "cpu,cpuacct"):
        (root / name).mkdir(parents=True)
    assert cgroup.memory_limit() is None
    (root / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (root / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("-1\n")
    (root / "cpu,cpuacct" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup.memory_limit() is None
    assert cgroup.cpu_limit() is None
    (root / "memory" / "memory.limit_in_bytes").write_text(f"{64 * _MIB}\n")
    (root / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text("25000\n")
    assert cgroup.memory_limit() == 64 * _MIB
    assert cgroup.cpu_limit() == 0.25


def test_room_is_what_is_left_of_the_tightest_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _fake_groups(tmp_path, monkeypatch, "0::/outer/inner\n")
    inner = root / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text(f"{5 * _MIB}\n")
    assert cgroup.memory_room() is None
    (root / "outer" / "memory.max").write_text(f"{100 * _MIB}\n")
    (root / "outer" / "memory.current").write_text(f"{80 * _MIB}\n")
    assert cgroup.memory_room() == 20 * _MIB
    stat = f"anon 1\ninactive_anon 7\ninactive_file {30 * _MIB}\nactive_file 9\n"
    (root / "outer" / "memory.stat").write_text(stat)
    assert cgroup.memory_room() == 50 * _MIB
    (root / "outer" / "memory.current").write_text(f"{200 * _MIB}\n")
    assert cgroup.memory_room() == 0


def test_room_in_control_groups_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _fake_groups(tmp_path, monkeypatch, "4:memory:/docker/abc\n")
    (root / "memory").mkdir(parents=True)
    (root / "memory" / "memory.limit_in_bytes").write_text(f"{64 * _MIB}\n")
    (root / "memory" / "memory.usage_in_bytes").write_text(f"{60 * _MIB}\n")
    assert cgroup.memory_room() == 4 * _MIB


@pytest.mark.parametrize("quota", [None, 0.25, 1.5, 1e9])
def test_slots_follow_the_quota_and_the_affinity(
    monkeypatch: pytest.MonkeyPatch, quota: float
) -> None:
    monkeypatch.setattr(describe, "cpu_limit", lambda: quota)
    cores = available_processors()
    expected = cores if quota is None else max(1, min(cores, math.ceil(quota)))
    assert describe.default_slots() == expected


def test_memory_follows_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_limit", lambda: 5 * _MIB)
    said = describe.describe_host(3, {"gpu": 2.0, "cpus": 1.0})
    assert said["memory"] == 5 * _MIB
    assert said["resources"] == {"cpus": 1.0, "memory": 5.0 * _MIB, "gpu": 2.0}


def test_hello_tells_resources(broker: FakeBroker, start_node: Callable[..., NodeProcess]) -> None:
    start_node(slots=2, resources="gpu=2,label=1")
    offered = broker.welcome().info["resources"]
    assert offered["memory"] > 0
    del offered["memory"]
    assert offered == {"cpus": 2.0, "gpu": 2.0, "label": 1.0}


def test_resources_that_cannot_be_read_are_told_in_one_line(
    start_node: Callable[..., NodeProcess],
) -> None:
    node = start_node(resources="gpu=two")
    assert node.wait() == 2
    assert len(without_waits(node.errors).splitlines()) == 1
    assert "'gpu=two' has no number" in node.errors


def _counter(path: Path, count: int) -> None:
    path.write_text(f"low 0\noom 7\noom_kill {count}\noom_group_kill 0\n")


def test_a_kill_for_lack_of_memory_explains_one_death_and_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "memory.events"
    _counter(path, 3)
    watch = OomDetector([str(tmp_path / "absent"), str(path)])
    assert not watch.explains(1.0)
    _counter(path, 4)
    assert watch.explains(1.5)
    assert not watch.explains(1.6)
    _counter(path, 5)
    watch.note(2.0)  # a process that a task had started, say
    for second in range(3, 8):
        watch.note(float(second))
    assert not watch.explains(8.0)
    watch.close()


def test_without_any_counter_nothing_is_claimed(tmp_path: Path) -> None:
    watch = OomDetector([str(tmp_path / "absent")])
    assert not watch.explains(1.0)
    watch.close()


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group whose processes may have 192 MiB together."""
    base = Path("/sys/fs/cgroup")
    version1 = (base / "memory").is_dir()
    group = (base / "memory" if version1 else base) / f"manyhands-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        name = "memory.limit_in_bytes" if version1 else "memory.max"
        (group / name).write_text(str(192 * _MIB))
        swap = group / ("memory.memsw.limit_in_bytes" if version1 else "memory.swap.max")
        if swap.exists():
            swap.write_text(str(192 * _MIB) if version1 else "0")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no control group with a memory limit can be made here: {error}")
    yield group
    for pid in (group / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: _removed(group), what="the group was empty")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def test_out_of_memory_kill_is_named_as_such(
    broker: FakeBroker, start_node: Callable[..., NodeProcess], small_group: Path
) -> None:
    def enter() -> None:
        Path(small_group / "cgroup.procs").write_text("0")

    start_node(slots=1, before=enter)
    hello = broker.welcome()
    assert hello.info["resources"]["memory"] == 192 * _MIB

    def devour() -> int:
        kept = [bytearray(os.urandom(1)) * (8 * _MIB) for _ in range(100)]
        return len(kept)

    broker.assign(devour, ())
    status, failure = broker.until_ended(1)["job", 1, 0]
    assert status == Status.CRASHED
    assert "was killed by the kernel for lack of memory (OOM)" in failure.message
    assert "running task 0 of job job" in failure.message
    event = next(e for e in broker.received if isinstance(e, m.Event))
    assert "OOM" in event.text
    # The node lives on, and other kills are called what they are.
    broker.assign(lambda: os.kill(os.getpid(), signal.SIGKILL), (), job="shot")
    _, failure = broker.until_ended(2)["shot", 1, 0]
    assert "died of SIGKILL (9)" in failure.message
