"""The start of the fork server, where the system gives nothing."""

from __future__ import annotations

import subprocess
import sys

_STARTS_TWICE = """
from multiprocessing import forkserver
from harness.processes import no_descriptor_left
from manyhands_shared.processes import hash_seed
from manyhands_worker.host.process_start import start_fork_server

hash_seed.learn(1)
with no_descriptor_left():
    start_fork_server()
assert forkserver._forkserver._forkserver_pid is None
start_fork_server()
assert forkserver._forkserver._forkserver_pid
"""


def test_a_fork_server_that_cannot_start_is_started_later() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{_STARTS_TWICE}"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the fork server cannot start yet" in done.stderr
