"""What tasks start ends with the node, however it was started and however the node ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.cluster.bench import Bench, joined
from harness.processes import eventually, has_ended
from manyhands_worker.host.child_cgroups import ChildCgroup

BOUND = 100.0
#: No node loses it for the sake of a busy machine.
LEASE = 100.0
_SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]


def session() -> int:
    """Start a program in a session of its own."""
    return subprocess.Popen(_SLEEP, start_new_session=True).pid


def daemon() -> int:
    """Start a program as daemons do: in a session of its own, below no process of the task."""
    reader, writer = os.pipe()
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.write(writer, str(os.getpid()).encode())
            os.execv(_SLEEP[0], _SLEEP)
        os._exit(0)
    os.close(writer)
    os.wait()
    # It ends when the program runs, which closes the other end.
    with os.fdopen(reader) as pipe:
        return int(pipe.read())


def has_no_groups(pid: int) -> bool:
    """Whether a node has no control group. Those of other tests come and go meanwhile."""
    try:
        return not list(Path("/sys/fs/cgroup").rglob(f"manyhands-{pid}-*"))
    except FileNotFoundError:
        return False


def hidden() -> Sequence[str]:
    """A command prefix: there are no control groups."""
    return ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup; exec "$@"', "hidden"]


def telling(groups: str, file: Path) -> dict[str, Any]:
    """Options of a node that writes into a file which process groups it has found."""
    prefix = hidden() if groups == "none" else ()
    return {
        "module": "chaos.telling_node",
        "prefix": [*prefix, "env", f"MANYHANDS_TEST_GROUPS={file}"],
    }


def found(file: Path, pids: Iterable[int]) -> None:
    """Wait until the node has found these processes, and its heartbeat process knows of them."""
    groups = {str(os.getpgid(pid)) for pid in pids}
    eventually(lambda: file.exists() and groups <= {*file.read_text().split()}, BOUND, what="found")


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
    bench: Bench, tmp_path: Path, groups: str, end: str
) -> None:
    """Row 9: they are in the control group of their child, or are looked for."""
    needs(groups)
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    node = bench.node(broker.address, slots=2, **telling(groups, tmp_path / "groups"))
    joined(client, 1)
    executor = bench.executor(broker.address)
    pids = [executor.submit(session).result(BOUND)]
    pids.append(executor.submit(daemon).result(BOUND))
    assert not any(map(has_ended, pids))
    assert groups == "none" or not has_no_groups(node.pid)
    if groups == "none" and end == "killed":
        found(tmp_path / "groups", pids)
    if end == "drained":
        node.close()
    else:
        node.kill()
    eventually(lambda: all(map(has_ended, pids)), BOUND, what="they are gone")
    eventually(lambda: has_no_groups(node.pid), BOUND, what="no control group is left")


@pytest.mark.parametrize("groups", ["groups", "none"])
def test_a_child_that_is_killed_takes_its_daemons_along(
    bench: Bench, tmp_path: Path, groups: str
) -> None:
    """Those of its neighbours live on."""
    needs(groups)
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    bench.node(broker.address, slots=1, **telling(groups, tmp_path / "groups"))
    joined(client, 1)
    executor = bench.executor(broker.address)
    pid = executor.submit(session).result(BOUND)
    child = executor.submit(os.getpid).result(BOUND)
    if groups == "none":
        found(tmp_path / "groups", [pid])
    psutil.Process(child).kill()
    eventually(lambda: has_ended(pid), BOUND, what="it is gone")
    assert executor.submit(abs, -1).result(BOUND) == 1
