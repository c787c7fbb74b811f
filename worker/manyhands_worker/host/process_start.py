"""How a node starts its processes, so that they find the world of the node as it was before.

Of the node, children get `sys.path`, and they inherit directory and environment. What the fork server
itself needs in the environment is taken back in it, before it forks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context, spawn, util
from typing import NamedTuple

from manyhands_shared.processes import hash_seed
from manyhands_shared.processes.start_without_main import bare_start
from manyhands_worker.host.directories import directory

log = logging.getLogger("manyhands.worker")

#: What variables were before `starting` changed them, as JSON.
_WAS = "MANYHANDS_ENVIRONMENT_WAS"
#: Names a file that the fork server keeps from itself and its children.
_HIDDEN = "MANYHANDS_HIDDEN_FILE"
#: A socket's name may have 107 bytes, and multiprocessing's own names take 32 of them.
_LONGEST_DIRECTORY = 72
_SHORT_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm")


class Environment(NamedTuple):
    """An environment that was made for jobs: its interpreter, and the `sys.path` of that."""

    interpreter: str
    path: tuple[str, ...]


class _Hidden:
    """The file to hide from children; empty for none."""

    path = ""


def start_fork_server(key_file: str = "", *, agent: bool = False) -> None:
    """Start the process that children are forked from, with their modules loaded.

    It returns at once and so runs beside whatever the caller does next. Nothing happens where
    children are spawned instead, and before the cluster's hash seed is known.

    Args:
        key_file: hidden from children if that can be done (see `key_hiding`).
        agent: whether the host agent is forked from it at once, and so has its modules loaded.
    """
    if sys.platform == "linux" and hash_seed.known() is not None:
        from multiprocessing import forkserver  # noqa: PLC0415 - Linux alone

        # What came over the standard input has no name, and is closed after it was read.
        _Hidden.path = "" if key_file.startswith("/proc/") else key_file
        loaded = ["manyhands_worker.child.preload"]
        if agent:
            loaded.append("manyhands_worker.agent.preload")
        get_context("forkserver").set_forkserver_preload(loaded)
        try:
            _shorten_directory()
            with starting():
                forkserver.ensure_running()
        except OSError as error:
            # Each child starts it, if it does not run.
            log.warning("the fork server cannot start yet: %s", error)


@contextlib.contextmanager
def starting(environment: Environment | None = None) -> Iterator[None]:
    """Start processes in this context: children, or the fork server that they are forked from.

    Args:
        environment: start them in this one, not in the node's own.
    """
    wanted = {}
    if environment is None:
        wanted["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if os.pathsep not in p)
    if _Hidden.path:
        wanted[_HIDDEN] = _Hidden.path
    if (seed := hash_seed.known()) is not None:
        wanted["PYTHONHASHSEED"] = str(seed)
    was = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    os.environ[_WAS] = json.dumps(was)
    try:
        if environment is None:
            with bare_start(directory()):
                yield
        else:
            # Behind what was installed for the job comes what the node has.
            search = dict.fromkeys((*environment.path, *sys.path))
            with _interpreter(environment), bare_start(directory(), list(search)):
                yield
    finally:
        restore_environment()


@contextlib.contextmanager
def _interpreter(environment: Environment) -> Iterator[None]:
    usual = spawn.get_executable()
    spawn.set_executable(environment.interpreter)
    try:
        yield
    finally:
        spawn.set_executable(usual)


def hide_key() -> None:
    """In the fork server, and what is not forked from it: keep the node's key from children."""
    if path := os.environ.get(_HIDDEN):
        from manyhands_worker.host.key_hiding import hide  # noqa: PLC0415 - for nodes with a key alone

        hide(path)


def activate(environment: Environment) -> None:
    """Have the programs of an environment found by those that this process starts."""
    programs = os.path.dirname(environment.interpreter)  # noqa: PTH120 - as text
    os.environ["VIRTUAL_ENV"] = os.path.dirname(programs)  # noqa: PTH120 - as text
    os.environ["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])


def restore_environment() -> None:
    """Give variables the values that they had before `starting` changed them, here or in a parent."""
    was: dict[str, str | None] = json.loads(os.environ.pop(_WAS, "{}"))
    for name, text in was.items():
        if text is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = text


def _shorten_directory() -> None:
    """Have multiprocessing put its sockets elsewhere if the temporary directory's name is too long."""
    if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_DIRECTORY:
        usual = tempfile.tempdir
        tempfile.tempdir = next(filter(os.path.isdir, _SHORT_DIRECTORIES), usual)
        try:
            util.get_temp_dir()  # it keeps what it has made
        finally:
            tempfile.tempdir = usual
