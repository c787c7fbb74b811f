"""`manyhands exec --detach --array`: each part is killed in the middle, and each end is told once.

`make kill-programs` does the same with 10,000 tasks, at moments that a seed draws.
"""

from __future__ import annotations

from pathlib import Path

from harness.cluster.bench import Bench, bench
from harness.cluster.killed_array import run_killed_array

__all__ = ["bench"]


def test_client_broker_and_node_are_killed_in_the_middle(bench: Bench, tmp_path: Path) -> None:
    kills = [(20, "client"), (40, "broker"), (60, "node")]
    run_killed_array(bench, tmp_path, 300, kills)
