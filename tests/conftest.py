"""Rules for every test: it leaves no process and no shared memory behind."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from harness.processes import (
    RUN_TAG,
    Gate,
    described,
    eventually,
    orphaned,
    own_processes,
    segments,
    started_since,
)
from manyhands._code import user_files
from manyhands_worker.host.child_cgroups import own_group, tidy

# A shell has what it starts in the background ignore SIGINT, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Set before anything is started. Every worker of pytest-xdist has a tag of its own, so that one
# does not take the processes of another for its own leftovers.
os.environ[RUN_TAG] = uuid.uuid4().hex
#: Seconds that a test's processes have to end after it: many, for a busy machine.
_GRACE = float(os.environ.get("MANYHANDS_TEST_GRACE", "50"))
# How long an example takes to make or to run depends on the machine alone.
settings.register_profile(
    "any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
#: Seconds that the fixtures of a test may take before it and behind it, if it has no mark `timeout`.
_FIXTURE_SECONDS = 300.0
# Nodes of tests find the modules of this tree, which are many, as this process does.
user_files.INSTALLED += (f"{Path(__file__).parents[1]}{os.sep}",)
# Tests decide themselves which cluster and which options they mean.
# Brokers that tests kill would leave their logs of programs there.
os.environ.pop("XDG_RUNTIME_DIR", None)
for _name in [name for name in os.environ if name.startswith("MANYHANDS_")]:
    if not _name.startswith("MANYHANDS_TEST_"):
        del os.environ[_name]
# Of pytest-xdist, the controller's are not the workers': names of sockets must be short.
_folders = tempfile.TemporaryDirectory(prefix="manyhands-tests-", dir="/tmp")
# A cluster that a test leaves to be found is found by that test alone. A node that is killed together
# with what tidies up behind it leaves the directory of its fork server.
for _name, _folder in (("MANYHANDS_RUNTIME_DIR", "run"), ("TMPDIR", "tmp")):
    os.environ[_name] = f"{_folders.name}/{_folder}"
    Path(os.environ[_name]).mkdir(mode=0o700)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Bound a setup by itself: a busy machine takes long to start what a whole module uses."""
    # Some tests share a port of the machine.
    if getattr(item.config.option, "loadgroup", False) and "@" not in item.nodeid:
        mark = item.get_closest_marker("xdist_group")
        assert mark is None, "pytest-xdist does not group tests with this pytest: use pytest<9.2"
    with _bounded("setup", item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Bound a teardown: pytest-timeout stops its clock for good as soon as a test has failed."""
    with _bounded("teardown", item):
        return (yield)


@contextlib.contextmanager
def _bounded(what: str, item: pytest.Item) -> Iterator[None]:
    """Fail what takes too long."""
    mark = item.get_closest_marker("timeout")
    seconds = max(_FIXTURE_SECONDS, float(mark.args[0]) if mark is not None else 0.0)

    def ring(*_: object) -> None:
        faulthandler.dump_traceback(all_threads=True)
        pytest.fail(f"the {what} took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    # Again and again: each finalizer of a fixture may stand still.
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True, scope="module")
def fixtures_leave_nothing_behind() -> Iterator[None]:
    """Fail the last test of a module whose own fixtures leave a process or a shared memory segment."""
    with _nothing_left():
        yield


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail a test that leaves a process or a shared memory segment.

    What fixtures of a wider scope started beforehand is theirs, with all that it starts in turn.
    """
    with _nothing_left():
        yield


@contextlib.contextmanager
def _nothing_left() -> Iterator[None]:
    processes, memory = own_processes(), segments()
    yield
    try:
        eventually(lambda: not started_since(processes), timeout=_GRACE, what="processes ended")
    except AssertionError:
        left = started_since(processes)
        told = [described(process) for process in left]
        threads = [thread.name for thread in threading.enumerate()]
        for process in left:
            process.kill()
        pytest.fail(f"left running: {'; '.join(told)}\nthreads here: {', '.join(threads)}")
    if segments() - memory:
        try:
            eventually(
                lambda: not orphaned(segments() - memory), timeout=_GRACE, what="memory unlinked"
            )
        except AssertionError:
            pytest.fail(f"left in /dev/shm: {', '.join(sorted(orphaned(segments() - memory)))}")


@pytest.fixture(autouse=True, scope="session")
def leaves_no_control_groups() -> Iterator[None]:
    """Fail the last test if a killed node has left groups that the next node could not remove."""
    yield
    here = own_group()
    if here is not None:

        def left() -> list[str]:
            tidy(here)
            found = [group.name for group in here.glob("manyhands-[0-9]*-*")]
            return [name for name in found if not Path(f"/proc/{name.split('-')[1]}").exists()]

        eventually(lambda: not left(), timeout=_GRACE, what="control groups removed")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """What tasks wait at, open at the end of the test at the latest."""
    made = Gate(tmp_path / "gate")
    yield made
    made.open()
