"""CPython's own tests of `multiprocessing`, of ours: the quick ones. `make conformance` runs all."""

from __future__ import annotations

import re

import pytest

from harness.programs import HOST, Hosts

tests = pytest.importorskip("harness.cpython.tests", reason="this Python has no tests of its own")

QUICK = [
    "TestSimpleQueue",
    "TestStartMethod",
    "WithProcessesTestEvent",
    "WithProcessesTestLock",
    "WithProcessesTestSemaphore",
    "WithProcessesTestSharedCTypes",
    "WithProcessesTestSharedMemory",
    "WithProcessesTestValue",
]


@pytest.mark.parametrize("where", ["own", "apart"])
def test_the_quick_ones_pass(hosts: Hosts, where: str) -> None:
    broker = hosts.broker.address if where == "apart" else ""
    done = tests.run(QUICK, {"MANYHANDS_BROKER": broker, HOST: ":root"})
    assert done.returncode == 0, done.stderr
    found = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert found is not None, done.stderr
    assert int(found[1]) > 30
