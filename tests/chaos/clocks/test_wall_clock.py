"""Row 31, for real: every process sees its wall clock jump by an hour, and nothing comes of it."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cluster.bench import Bench, counters, joined
from harness.cluster.ledger import Ledger, run
from harness.processes import eventually

pytestmark = pytest.mark.slow

HOUR = 3_600
#: Far less than an hour, and more than a busy machine keeps a node from renewing it.
LEASE = 10.0
BOUND = 100.0
#: Times that a task or a job may take: less than an hour, too.
LONG = 600.0
#: Heartbeats that are counted after the jump, ten a second.
BEATS = 20
_LIBRARIES = ("faketime/libfaketimeMT.so.1", "libfaketimeMT.so.1")


class WallClock:
    """The wall clock of all processes that are started from now on. Other clocks are left alone."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.move(0)

    def move(self, seconds: int) -> None:
        """Set it `seconds` ahead of the real one."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"+{seconds}s\n")
        draft.replace(self._file)


@pytest.fixture
def wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WallClock]:
    folders = [Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-gnu*"), Path("/usr/lib64")]
    found = [place / name for place in folders for name in _LIBRARIES if (place / name).exists()]
    if sys.platform != "linux" or not found:
        pytest.skip("libfaketime is not installed (Debian: apt-get install faketime)")
    file = tmp_path / "faketime"
    clock = WallClock(file)
    monkeypatch.setenv("LD_PRELOAD", str(found[0]))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(file))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    yield clock
    clock.move(0)


def work(file: str, task: int, gate: str) -> float:
    """Leave a trace, wait until the gate is open; returns the time of day as seen here."""
    run(file, task)
    eventually(Path(gate).exists, BOUND)
    return time.time()


@pytest.mark.parametrize("jump", ["ahead", "back"])
def test_a_wall_clock_that_jumps_by_an_hour_changes_nothing(
    bench: Bench, wall_clock: WallClock, tmp_path: Path, jump: str
) -> None:
    before, after = (0, HOUR) if jump == "ahead" else (HOUR, 0)
    wall_clock.move(before)
    ledger = Ledger(bench.folder)
    options = {"session_grace": LONG, "keep_results": LONG}
    broker = bench.broker(
        lease=LEASE, beat_interval=0.1, journal=str(tmp_path / "journal"), **options
    )
    bench.node(broker.address, "far")
    bench.node(broker.address, "near")
    client = bench.client(broker.address)
    joined(client, 2)
    executor = bench.executor(broker.address, timeout=LONG, deadline=2 * LONG)
    kept = client.submit_job(abs, [(-1,)], durable=True)
    assert kept.results() == [1]
    gates = [tmp_path / "first", tmp_path / "second"]
    futures = [executor.submit(work, ledger.file, task, str(gates[0])) for task in range(4)]
    eventually(lambda: len(ledger.runs) == 2, BOUND, what="both nodes are at work")
    eventually(lambda: all(node["beats"] > 3 for node in client.query("nodes")), BOUND)
    beats = {node["name"]: node["beats"] for node in client.query("nodes")}

    wall_clock.move(after)

    def beat_on() -> bool:
        nodes = client.query("nodes")
        assert {node["name"] for node in nodes} == {"far", "near"}
        return all(node["beats"] > beats[node["name"]] + BEATS for node in nodes)

    eventually(beat_on, BOUND, what="heartbeats go on")
    gates[0].touch()
    seen = [future.result(BOUND) for future in futures]
    # The children did see it, or this test would have shown nothing.
    assert all(abs(at - time.time() - after) < HOUR / 4 for at in seen)
    assert counters(client).get("nodes_condemned", 0) == 0
    eventually(
        lambda: not any(node["phi"] for node in client.query("nodes")), what="none suspected"
    )
    # That a busy machine has kept it waiting, it may say.
    stalls = map(float, re.findall(r"did not run for ([\d.]+) s", broker.log))
    assert max(stalls, default=0.0) < HOUR / 4
    assert max(ledger.runs.values()) == 1
    assert kept.results() == [1]

    # A lease still runs out when it should.
    [far] = [node for node in bench.nodes if node.name == "far"]
    far.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        eventually(lambda: counters(client).get("nodes_condemned"), BOUND, what="condemned")
        assert time.monotonic() - stopped > LEASE / 2
    finally:
        os.kill(far.pid, signal.SIGCONT)
