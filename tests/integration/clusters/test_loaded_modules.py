"""Small processes load little: neither a pool child nor the heartbeat receiver has a core."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import manyhands
from harness.cluster.programs import finished, start_root
from harness.loaded_modules import TellingSocket
from manyhands_broker.heartbeats import table
from manyhands_broker.heartbeats.receiver import HeartbeatMonitor, bind_udp

SECONDS = 100.0


def _of(loaded: list[str], *packages: str) -> list[str]:
    return [name for name in loaded if name.startswith(packages)]


def test_a_pool_child_has_no_core() -> None:
    with (
        manyhands.LocalCluster(nodes=1, slots=1) as cluster,
        manyhands.Executor(address=cluster.address) as executor,
    ):
        loaded = executor.submit(eval, "sorted(__import__('sys').modules)").result(SECONDS)
    assert "manyhands_worker.child.runner" in loaded
    unwanted = ("manyhands_worker.agent", "manyhands_worker.core", "manyhands_worker.pool")
    wire = [f"manyhands_shared.protocol.{name}" for name in ("bounds", "messages", "wire")]
    assert _of(loaded, "manyhands_broker", *wire, *unwanted, "manyhands_worker.node") == []


_POOL = """
import manyhands.multiprocessing as mp

if __name__ == "__main__":
    with mp.Pool(1) as pool:
        print(*pool.apply(eval, ("sorted(__import__('sys').modules)",)))
"""


def test_what_forks_a_program_s_processes_is_loaded_beside_its_own_cluster(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(_POOL)
    loaded = finished(start_root([str(script)], None)).split()
    # A pool's child is forked from what the host agent is forked from.
    needed = ("manyhands_worker.agent.agent", "manyhands.multiprocessing._processes.child")
    assert _of(loaded, *needed) == sorted(needed)


def test_the_heartbeat_receiver_has_no_core() -> None:
    here, there = multiprocessing.Pipe()
    with bind_udp("127.0.0.1", 0) as sock, here, there:
        sockets: list[Any] = [TellingSocket(sock, there)]
        receiver = HeartbeatMonitor(sockets, table.new_table(8))
        receiver.start()
        try:
            assert here.poll(SECONDS)
            loaded = here.recv()
        finally:
            receiver.terminate()
            receiver.join()
    assert "manyhands_broker.heartbeats.receiver" in loaded
    assert _of(loaded, "manyhands_broker.core", "manyhands_broker.loop", "manyhands_worker") == []
