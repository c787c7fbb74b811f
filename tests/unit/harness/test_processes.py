"""The watch for leftovers sees them: each leak here is made on purpose, in a run of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from harness.processes import eventually, without_waits

TESTS = Path(__file__).parents[2]
LEAKS = {
    "a child": """
import subprocess, sys
def test_leak():
    subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
""",
    "a grandchild that lost its parent": """
import subprocess, sys
def test_leak():
    sleeper = "import signal; print(flush=True); signal.pause()"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleeper!r}])"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
""",
    "a child of a fixture": """
import pytest, subprocess, sys
@pytest.fixture(scope="module")
def leak():
    subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
def test_leak(leak):
    pass
""",
    "a child of the fork server": """
import multiprocessing, signal
def test_leak():
    global process
    process = multiprocessing.get_context("forkserver").Process(target=signal.pause)
    process.start()
""",
    "a shared memory block": """
from multiprocessing import resource_tracker, shared_memory
def test_leak():
    block = shared_memory.SharedMemory("SEGMENT", create=True, size=10)
    resource_tracker.unregister(block._name, "shared_memory")
    block.close()
""",
}
CLEAN = """
import multiprocessing, subprocess, sys
from multiprocessing.sharedctypes import RawArray
def test_clean():
    array = RawArray("d", 100_000)
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    process = multiprocessing.get_context("forkserver").Process(target=print)
    process.start()
    process.join()
"""


def run(tmp_path: Path, source: str, grace: float) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_case.py").write_text(source)
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        f"pythonpath={TESTS}",
        "--rootdir",
        str(tmp_path),
    ]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "MANYHANDS_TEST_GRACE": str(grace)},
    )


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_fails_its_test(leak: str, tmp_path: Path) -> None:
    segment = f"manyhands-leak-{uuid.uuid4().hex}"
    result = run(tmp_path, LEAKS[leak].replace("SEGMENT", segment), 1.0)
    try:
        assert "1 error" in result.stdout
        assert "left running:" in result.stdout or "left in /dev/shm:" in result.stdout
    finally:
        Path("/dev/shm", segment).unlink(missing_ok=True)


def test_of_what_is_left_it_is_told_what_it_is(tmp_path: Path) -> None:
    told = run(tmp_path, LEAKS["a child"], 0.0).stdout
    assert re.search(r"left running: \d+ \(of \d+, \d+\.\d s old\): .* -c input\(\)\n", told), told
    assert re.search(r"threads here: MainThread\n", told), told


def test_what_cleans_up_passes(tmp_path: Path) -> None:
    result = run(tmp_path, CLEAN, 60.0)
    assert result.returncode == 0, result.stdout


def test_eventually_gives_what_the_condition_gave() -> None:
    values = iter([0, "", "at last"])
    assert eventually(lambda: next(values), 120) == "at last"


def test_eventually_ends() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the moon"):
        eventually(lambda: False, 0.05, what="the moon")


@pytest.mark.parametrize(
    "said",
    [
        "manyhands: no broker answers yet at tcp://127.0.0.1:1; trying for 10 s",
        "manyhands: no broker answers at tcp://127.0.0.1:1. This goes on trying",
        "manyhands: nothing runs of 1,000 unfinished tasks: no node is connected; start one",
        "12:00:00 WARNING the broker did not run for 0.7 s; leases are extended by that",
        "12:00:00 WARNING no broker has let this node in yet at unix://@a. It goes on trying",
    ],
)
def test_what_a_busy_machine_makes_a_program_say_is_left_out(said: str) -> None:
    assert without_waits(f"a\n{said}\nb") == "a\nb"
    assert without_waits("manyhands: the program has ended\n") == (
        "manyhands: the program has ended\n"
    )
