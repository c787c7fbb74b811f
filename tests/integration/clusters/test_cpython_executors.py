"""CPython's own tests of executors pass, where the interpreter has them; the exceptions are listed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands import LocalCluster

SCRIPT = Path(__file__).parents[2] / "harness" / "cpython" / "executors.py"
SECONDS = 100
MODULES = ["as_completed", "deadlock", "init", "process_pool", "shutdown", "wait"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if importlib.util.find_spec("test") is None or not importlib.util.find_spec(
        "test.test_concurrent_futures"
    ):
        pytest.skip("this Python has no package test.test_concurrent_futures")
    with LocalCluster(nodes=1, slots=3) as cluster:
        yield cluster.address


@pytest.mark.parametrize("module", MODULES)
def test_of_cpython(module: str, address: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), f"test_{module}"],
        env={**os.environ, "MANYHANDS_BROKER": address},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
