"""Programs of several processes, on one host and on two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.leftovers import leaves_no_traces, scratch
from harness.programs import Hosts, Run, Script

__all__ = ["leaves_no_traces", "scratch"]
#: Where a program runs: on a cluster of its own; beside a node of two; on a host without a node.
PLACES = ("own", "beside", "apart")
#: A process on each host, with something to share.
_FIRST = """
    if __name__ == "__main__":
        gate = mp.Event()
        processes = [mp.Process(target=gate.wait, node=name) for name in "ab"]
        mp.start_all(processes)
        gate.set()
        for process in processes:
            process.join()
"""


@pytest.fixture(scope="module")
def hosts(scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Two hosts with a node each."""
    del scratch
    started = Hosts(tmp_path_factory.mktemp("hosts"))
    try:
        # What broker and nodes open with the first program, and keep, is no trace of a test.
        first = Script(started.folder, _FIRST, address=started.broker.address)
        assert first.finish() == (0, "")
        yield started
    finally:
        started.close()


@pytest.fixture(params=PLACES)
def run(request: pytest.FixtureRequest, hosts: Hosts, tmp_path: Path) -> Run:
    """Run a script in each of the places."""
    if request.param == "own":
        return lambda text: Script(tmp_path, text)
    host = "a" if request.param == "beside" else ""
    return lambda text: Script(tmp_path, text, address=hosts.broker.address, host=host)


@pytest.fixture
def apart(hosts: Hosts, tmp_path: Path) -> Run:
    """Run a script on a host without a node, with two others."""
    return lambda text: Script(tmp_path, text, address=hosts.broker.address)
