"""The cases of `suite`, for `python -m unittest harness.cpython.tests.NAME`.

`python -m harness.cpython.tests` runs all of them: on a cluster of its own, then on two hosts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Mapping
from pathlib import Path

from harness.cpython import suite
from harness.programs import HOST, Hosts

#: Cases that ask for what is not there, or for the opposite of what is promised, and why.
EXEMPT = {
    "TestFlags.test_flags": "it runs Python without its installed packages",
    "TestPoolNotLeakOnFailure.test_release_unused_processes": "it replaces a pool's processes",
    "TestResourceTracker.test_resource_tracker": "host agents give memory back, no tracker",
    "TestResourceTracker.test_resource_tracker_sigkill": "semaphores are nothing of the tracker's",
    "TestStartMethod.test_mixed_startmethod": "a lock of any context travels to any process",
    "WithProcessesTestPoolWorkerLifetime.test_pool_worker_lifetime": "it calls a private method",
    "WithProcessesTestSharedMemory.test_shared_memory_cleaned_after_process_termination": (
        "host agents give memory back, no tracker that warns of it"
    ),
    "_TestImportStar.test_import": "it lists the standard package's own files",
}
#: And where processes are on other hosts.
EXEMPT_APART = {
    "WithProcessesTestConnection.test_fd_transfer": "a descriptor stays on its host",
    "WithProcessesTestConnection.test_large_fd_transfer": "a descriptor stays on its host",
    "WithProcessesTestPoll.test_boundaries": "bytes go to the host of a reader before it reads them",
}
# A shell leaves SIGINT ignored to what it runs in the background, and tests interrupt themselves.
_RUN = (
    "import signal, unittest; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "unittest.main(module=None)"
)
#: One class may take this long.
_SECONDS = 300.0

suite.install_tests_in_module_dict(globals(), "spawn")  # type: ignore[attr-defined]
if os.environ.get("MANYHANDS_BROKER"):
    EXEMPT |= EXEMPT_APART
for _place, _why in EXEMPT.items():
    _name, _, _method = _place.partition(".")
    _case = globals().get(_name)
    if hasattr(_case, _method):
        setattr(_case, _method, unittest.skip(_why)(getattr(_case, _method)))
# No case of its own.
_case = None


def names() -> list[str]:
    """Return the classes that are about processes: those on threads are the standard library's own."""
    return sorted(
        name
        for name, one in globals().items()
        if isinstance(one, type)
        and issubclass(one, unittest.TestCase)
        and not name.startswith("WithThreads")
    )


def run(classes: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run classes in a process of their own."""
    path = os.pathsep.join(one for one in sys.path if one)
    return subprocess.run(
        [sys.executable, "-c", _RUN, "-v", *(f"harness.cpython.tests.{name}" for name in classes)],
        env={**os.environ, **environment, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def _run_all(where: str, environment: Mapping[str, str]) -> bool:
    passed = True
    for name in names():
        try:
            done = run([name], environment)
            said = done.stderr.rpartition("\n\n")[2].strip()
        except subprocess.TimeoutExpired:
            done, said = None, "does not end"
        print(f"{where}: {name}: {said}", flush=True)
        if done is None or done.returncode:
            passed = False
            print(done.stderr if done is not None else "", flush=True)
    return passed


def main() -> int:
    """Run everything; return an exit code."""
    passed = _run_all("one host", {"MANYHANDS_BROKER": ""})
    with tempfile.TemporaryDirectory() as folder:
        hosts = Hosts(Path(folder))
        try:
            passed &= _run_all("two hosts", {"MANYHANDS_BROKER": hosts.broker.address, HOST: ":a"})
        finally:
            hosts.close()
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
