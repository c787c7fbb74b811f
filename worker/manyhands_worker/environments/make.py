"""The process that makes an environment: it runs the installer, and says how that went.

It reads an `Order` as JSON from its standard input, and writes an `Answer` as one line. It holds the
lock of the environment, which it has from the node. So the node goes on holding it when this one leaves.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from manyhands_shared.processes.lifecycle import die_with_parent
from manyhands_shared.processes.shortage import is_shortage
from manyhands_worker.environments import directory
from manyhands_worker.host.key_hiding import hide

#: Lines of the installer that a failure has.
_LAST_LINES = 12
_PIP_OPTIONS = "--no-input", "--disable-pip-version-check"
#: Variables that say where the node has its modules, and not where to install.
_OF_THE_NODE = frozenset({"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"})
#: Behind the `.pth` files of what is installed there, for Python reads them by their names.
_NODE_PATH = "zz_manyhands_node.pth"
#: What each child loads. If it cannot, no task can run there.
_PROBE = "import json, sys; import manyhands_worker.child.process; print(json.dumps(sys.path))"


class Order(NamedTuple):
    """What to make. `lock` is the descriptor of the lock, `path` that of `directory.node_path`."""

    place: str
    requirements: list[str]
    path: list[str]
    lock: int
    node: int
    key_file: str


class Answer(NamedTuple):
    """The interpreter and its `sys.path`; or why there is none.

    `is_short`: for the system lacked something, so that it is worth another attempt.
    """

    interpreter: str = ""
    path: Sequence[str] = ()
    reason: str = ""
    is_short: bool = False


def of_error(error: OSError) -> Answer:
    """Return the answer where the system refused something."""
    if is_shortage(error):
        return Answer(reason=f"the system is short of something: {error}", is_short=True)
    return Answer(reason=f"{error}; another place can be named with --environments-dir")


class _Failed(Exception):
    """A step failed; the text says which, with what it printed last."""


def main() -> None:
    """Make what the standard input asks for."""
    order = Order(*json.load(sys.stdin))
    die_with_parent(order.node)
    # What is built from source runs here.
    if order.key_file and not order.key_file.startswith("/proc/"):
        hide(order.key_file)
    try:
        answer = _obtain(order)
    except _Failed as error:
        answer = Answer(reason=str(error))
    except OSError as error:
        answer = of_error(error)
    print(json.dumps(answer), flush=True)


def _obtain(order: Order) -> Answer:
    """Return the environment, made here or by another node of this host."""
    place = Path(order.place)
    # Waits while another process makes it.
    fcntl.flock(order.lock, fcntl.LOCK_SH)
    mark = directory.read_mark(place)
    if mark is None:
        fcntl.flock(order.lock, fcntl.LOCK_EX)
        mark = directory.read_mark(place)
    if mark is None:
        directory.remove(place)
        try:
            path = _make(place, order)
        except (_Failed, OSError):
            directory.remove(place)
            raise
        mark = {
            "requirements": order.requirements,
            "path": path,
            "bytes": directory.size_of(place),
        }
        directory.write_mark(place, mark)
        directory.trim(place.parent, keep=place)
    fcntl.flock(order.lock, fcntl.LOCK_SH)
    directory.used(place)
    return Answer(str(_interpreter(place)), mark["path"])


def _make(place: Path, order: Order) -> list[str]:
    """Install everything; return the `sys.path` of the environment."""
    listed = place / "requirements.txt"
    python = str(_interpreter(place))
    uv = shutil.which("uv")
    if uv is not None:
        _run("uv venv", [uv, "venv", "--no-project", "--python", sys.executable, str(place)])
        install = [uv, "pip", "install", "--python", python, "--compile-bytecode"]
    else:
        # The node's own pip will do, and spares each environment one.
        has_pip = find_spec("pip") is not None
        without = ["--without-pip"] if has_pip else []
        _run("python -m venv", [sys.executable, "-I", "-m", "venv", *without, str(place)])
        pip = [sys.executable, "-I", "-m", "pip", "--python"] if has_pip else []
        install = [*pip, python, *([] if has_pip else ["-m", "pip"]), "install", *_PIP_OPTIONS]
    listed.write_text("".join(f"{line}\n" for line in order.requirements))
    _run("uv pip install" if uv else "pip install", [*install, "-r", str(listed)])
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    installed = place / "lib" / version / "site-packages"
    (installed / _NODE_PATH).write_text("".join(f"{folder}\n" for folder in order.path))
    found = _run("a task's process", [python, "-I", "-c", _PROBE])
    path: list[str] = json.loads(found.splitlines()[-1])
    return path


def _interpreter(place: Path) -> Path:
    return place / "bin" / "python"


def _run(name: str, command: list[str]) -> str:
    """Run a step; return what it printed.

    Raises:
        _Failed: it did not succeed.
    """
    variables = {name: text for name, text in os.environ.items() if name not in _OF_THE_NODE}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=variables,
        check=False,
        # This process has one thread.
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
        how = (
            f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        )
        raise _Failed(f"{name} failed ({how}):\n{last}")
    return done.stdout
