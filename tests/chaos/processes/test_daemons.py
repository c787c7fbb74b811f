"""What tasks start ends with the node, however it was started and however the node ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

import manyhands
from harness.cluster.bench import Bench, joined
from harness.processes import eventually
from manyhands_worker.host.child_cgroups import ChildCgroup

BOUND = 100.0
#: No node loses it for the sake of a busy machine.
LEASE = 100.0
_SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]


def session() -> int:
    """Start a program in a session of its own."""
    return subprocess.Popen(_SLEEP, start_new_session=True).pid


def daemon(path: str) -> int:
    """Start a program as daemons do: in a session of its own, below no process of the task."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            Path(path).write_text(str(os.getpid()))
            os.execv(_SLEEP[0], _SLEEP)
        os._exit(0)
    os.wait()
    while not (Path(path).exists() and Path(path).read_text()):
        threading.Event().wait(0.01)
    return int(Path(path).read_text())


def lives(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def has_no_groups(pid: int) -> bool:
    """Whether a node has no control group. Those of other tests come and go meanwhile."""
    try:
        return not list(Path("/sys/fs/cgroup").rglob(f"manyhands-{pid}-*"))
    except FileNotFoundError:
        return False


def hidden() -> Sequence[str]:
    """A command prefix: there are no control groups."""
    return ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup; exec "$@"', "hidden"]


def rest() -> None:
    """Take longer than a node waits before it looks for strays."""
    threading.Event().wait(1.0)


def looked(executor: manyhands.Executor) -> None:
    """Wait until the node has looked for strays: half a second behind the end of a task.

    It has when it reports the end of one that took longer, and has told of them when it ends the next.
    """
    executor.submit(rest).result(BOUND)
    executor.submit(abs, -1).result(BOUND)


def needs(groups: str) -> None:
    """Skip where the test cannot be."""
    if groups == "groups":
        made = ChildCgroup.make()
        if made is None:
            pytest.skip("needs to make control groups")
        made.close()
    elif subprocess.run([*hidden(), "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a mount namespace (root)")


@pytest.mark.parametrize("groups", ["groups", "none"])
@pytest.mark.parametrize("end", ["drained", "killed"])
def test_daemons_that_tasks_start_do_not_outlive_the_node(
    bench: Bench, groups: str, end: str
) -> None:
    """Row 9: they are in the control group of their child, or are looked for."""
    needs(groups)
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    node = bench.node(broker.address, slots=2, prefix=hidden() if groups == "none" else ())
    joined(client, 1)
    executor = bench.executor(broker.address)
    pids = [executor.submit(session).result(BOUND)]
    pids.append(executor.submit(daemon, str(bench.folder / "daemon")).result(BOUND))
    assert all(map(lives, pids))
    assert groups == "none" or not has_no_groups(node.pid)
    if groups == "none" and end == "killed":
        looked(executor)
    if end == "drained":
        node.close()
    else:
        node.kill()
    eventually(lambda: not any(map(lives, pids)), BOUND, what="they are gone")
    eventually(lambda: has_no_groups(node.pid), BOUND, what="no control group is left")


@pytest.mark.parametrize("groups", ["groups", "none"])
def test_a_child_that_is_killed_takes_its_daemons_along(bench: Bench, groups: str) -> None:
    """Those of its neighbours live on."""
    needs(groups)
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    bench.node(broker.address, slots=1, prefix=hidden() if groups == "none" else ())
    joined(client, 1)
    executor = bench.executor(broker.address)
    pid = executor.submit(session).result(BOUND)
    child = executor.submit(os.getpid).result(BOUND)
    if groups == "none":
        looked(executor)
    psutil.Process(child).kill()
    eventually(lambda: not lives(pid), BOUND, what="it is gone")
    assert executor.submit(abs, -1).result(BOUND) == 1
