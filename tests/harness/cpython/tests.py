"""The cases of `suite`, for `python -m unittest harness.cpython.tests.NAME`.

`python -m harness.cpython.tests` runs all of them: on a cluster of its own, then on two hosts. Names of
classes are its arguments, if not all are wanted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.cpython import report, suite
from harness.cpython.exemptions import EXEMPT, EXEMPT_APART
from harness.programs import HOST, Hosts

# A shell leaves SIGINT ignored to what it runs in the background, and tests interrupt themselves.
_RUN = (
    "import signal, unittest; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "unittest.main(module=None)"
)
#: One class may take this long.
_SECONDS = 300.0

suite.install_tests_in_module_dict(globals(), "spawn")  # type: ignore[attr-defined]
_exempt = EXEMPT | EXEMPT_APART if os.environ.get("MANYHANDS_BROKER") else EXEMPT
for _place, _why in _exempt.items():
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


def _run_all(
    where: str, environment: Mapping[str, str], chosen: Sequence[str]
) -> list[report.Outcome]:
    outcomes = []
    for name in chosen:
        try:
            said = run([name], environment).stderr
        except subprocess.TimeoutExpired as expired:
            output = expired.stderr
            said = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
        done = report.outcome(said, EXEMPT | EXEMPT_APART)
        print(f"{where}: {name}: {done}", flush=True)
        if done.failed:
            print(said, flush=True)
        outcomes.append(done)
    return outcomes


def main(chosen: Sequence[str]) -> int:
    """Run the classes that are named, else all; print a table. Returns an exit code."""
    chosen = chosen or names()
    alone = _run_all("one host", {"MANYHANDS_BROKER": ""}, chosen)
    with tempfile.TemporaryDirectory() as folder:
        hosts = Hosts(Path(folder))
        try:
            environment = {"MANYHANDS_BROKER": hosts.broker.address, HOST: ":a"}
            apart = _run_all("two hosts", environment, chosen)
        finally:
            hosts.close()
    outcomes = {name: (one, two) for name, one, two in zip(chosen, alone, apart, strict=True)}
    report.show(("one host", "two hosts"), outcomes)
    print("Exempt, and why:")
    for name, why in (EXEMPT | EXEMPT_APART).items():
        print(f"  {name}: {why}{' (on two hosts)' if name in EXEMPT_APART else ''}")
    return int(any(one.failed for one in (*alone, *apart)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
