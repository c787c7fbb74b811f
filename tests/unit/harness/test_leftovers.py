"""The watch for traces sees them: each kind is left on purpose, here and in a process that goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
HEAD = """
import mmap, os, socket, subprocess, sys
import pytest
kept = []

@pytest.fixture(scope="module")
def helper(scratch):
    code = "import mmap, os, socket, sys; kept = []\\n"
    code += "for line in sys.stdin: exec(line); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        def run(text):
            process.stdin.write(text + "\\n")
            process.stdin.flush()
            process.stdout.readline()
        yield run
        process.stdin.close()

@pytest.mark.parametrize("number", range(2))
def test_warm(helper, number):
    helper("pass")

@pytest.mark.parametrize("make", STATEMENTS)
def test_case(helper, make):
    WHERE
"""
LEAKS = {
    "descriptors of": "kept += [os.pipe() for _ in range(5)]",
    "sockets: @manyhands-leak": (
        # Another run of this test beside it has a name of its own.
        's = socket.socket(socket.AF_UNIX); s.bind(f"\\0manyhands-leak-{os.getpid()}"); kept.append(s)'
    ),
    "memory of": (
        'fds = [os.memfd_create("manyhands") for _ in range(3)]; [os.ftruncate(fd, 9) for fd in fds]; '
        "kept += [mmap.mmap(fd, 9) for fd in fds]; [os.close(fd) for fd in fds]"
    ),
    "files: left": 'open(os.environ["TMPDIR"] + "/left", "w").close()',
}
PLACES = {"here": "exec(make)", "elsewhere": "helper(make)"}
CLEAN = (
    'fd = os.memfd_create("manyhands"); os.ftruncate(fd, 9); mmap.mmap(fd, 9).close(); os.close(fd); '
    'name = os.environ["TMPDIR"] + "/left"; open(name, "w").close(); os.remove(name)'
)


def run(tmp_path: Path, statements: Iterable[str], where: str, grace: float) -> str:
    """Run a test for each of these that executes it, and return what is said of them."""
    source = HEAD.replace("STATEMENTS", repr(list(statements))).replace("WHERE", PLACES[where])
    (tmp_path / "test_case.py").write_text(source)
    watch = "from harness.leftovers import leaves_no_traces, scratch\n"
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text() + watch)
    options = ["-q", "-p", "no:cacheprovider", "-o", f"pythonpath={TESTS}", "--rootdir"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "MANYHANDS_TEST_GRACE": str(grace)},
    ).stdout


@pytest.mark.parametrize("where", PLACES)
def test_what_is_left_fails_its_test(tmp_path: Path, where: str) -> None:
    out = run(tmp_path, LEAKS.values(), where, 0.3)
    assert "6 passed, 4 errors" in out
    assert out.count("ERROR at teardown of test_case") == len(LEAKS)
    for said in LEAKS:
        assert said in out


@pytest.mark.parametrize("where", PLACES)
def test_what_is_cleaned_up_passes(tmp_path: Path, where: str) -> None:
    assert "3 passed" in run(tmp_path, [CLEAN], where, 60.0).splitlines()[-1]
