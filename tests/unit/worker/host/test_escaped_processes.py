"""Processes that have left the group of their child are found when the child is to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from harness.processes import eventually, has_ended
from manyhands_worker.host.escaped_processes import EscapedProcesses


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """Stands for a pool child: the leader of a group, with a process in a group of its own."""
    line = "import os, subprocess; p = subprocess.Popen(['sleep', '600'], process_group=0); "
    line += "print(p.pid, flush=True); p.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", line], stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_was_sought_dies_with_its_child(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    escaped = int(child.stdout.readline())
    assert os.getpgid(escaped) == escaped
    reach = EscapedProcesses()
    reach.seek(child.pid)
    child.kill()
    reach.kill(child.pid)
    eventually(lambda: has_ended(escaped), what="the process in another group is dead")
