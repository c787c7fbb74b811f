"""Clients that lend large arguments and then do not answer: others' tasks run on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from harness.cluster.bench import Bench, joined
from harness.processes import Gate, eventually, lent_memory, wait_at
from manyhands_shared import shm

pytestmark = pytest.mark.skipif(not shm.AVAILABLE, reason="memory is lent on Linux only")

BOUND = 100.0

_STOPS = """
import os, signal, sys, numpy, manyhands, threading
executor = manyhands.Executor(address=sys.argv[1])
first = executor.submit(len, "a")
how = sys.argv[2]
said = threading.Event()
def up():
    os.write(1, b"up\\n")
    said.set()
def sit(_):
    up()
    sys.stdin.readline()
if how == "callback":
    first.result()
futures = [executor.submit(numpy.sum, numpy.full(200_000, float(n))) for n in range(60)]
blocked = executor.submit(len, "ab")
if how == "callback":
    blocked.add_done_callback(sit)
else:
    up()
sums = [future.result(100) for future in futures]
said.wait()
print(sums == [200_000.0 * n for n in range(60)], flush=True)
"""


@pytest.mark.parametrize("how", ["stopped", "callback"])
def test_a_client_that_lends_and_does_not_answer_keeps_no_slot(bench: Bench, how: str) -> None:
    """Row 48: its tasks wait for it elsewhere, and end when it is back."""
    broker = bench.broker()
    client = bench.client(broker.address)
    node = bench.node(broker.address, slots=2)
    joined(client, 1)
    executor = bench.executor(broker.address)
    executor.submit(abs, -1).result(BOUND)
    gate = Gate(bench.folder / "gate")
    bench.stack.callback(gate.open)
    blocks = [] if how == "callback" else [executor.submit(wait_at, gate.path) for _ in range(2)]
    lends = subprocess.Popen(
        [sys.executable, "-c", _STOPS, broker.address, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert lends.stdin is not None
        assert lends.stdout is not None
        assert lends.stdout.readline() == "up\n"
        if how == "stopped":
            lends.send_signal(signal.SIGSTOP)
            gate.open()
        for block in blocks:
            block.result(BOUND)
        # The lender answers nothing until these have run.
        for number in range(30):
            assert executor.submit(abs, -number).result(BOUND) == number
        lends.send_signal(signal.SIGCONT)
        lends.stdin.write("\n")
        lends.stdin.flush()
        assert lends.stdout.readline() == "True\n"
        assert lends.wait(BOUND) == 0
    finally:
        lends.kill()
        lends.communicate()
    eventually(lambda: not lent_memory(node.pid), BOUND, what="nothing is lent any more")
