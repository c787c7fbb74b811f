"""What runs in the process of a member that was started: from its host agent's word to its own code.

The host agent forks it from a process that has this module loaded, and calls `run`.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import select
import socket
import sys
import traceback
from collections import OrderedDict
from typing import Any, NoReturn

import cloudpickle  # noqa: F401 - most processes need it: loaded before they are forked

from manyhands.multiprocessing import process, reduction
from manyhands.multiprocessing._processes import membership, preparation
from manyhands.multiprocessing._processes.popen import Bound
from manyhands.multiprocessing._processes.program import Program
from manyhands_shared.coordination.channel import MemberChannel
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.by_value import script_pickle  # noqa: F401 - as said above
from manyhands_shared.payloads.by_value.class_resolution import World
from manyhands_shared.payloads.by_value.main_module import script
from manyhands_shared.payloads.by_value.subprocess_main import prepare_inner_processes
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.messages.coordination import Began, Start

__all__ = ["process", "run"]

#: What the system tells a process whose parent has ended.
_ORPHANED = 1
#: Processes of `multiprocessing` do so from Python 3.13 on.
_RUNS_EXIT_HANDLERS = sys.version_info >= (3, 13)


def run(member: bytes, sock: socket.socket, parent: int) -> NoReturn:
    """Be a member, from its `Start` to its end.

    Args:
        member: its id.
        sock: its channel to the host agent.
        parent: can be read when the process that started it has ended.
    """
    code = 1
    try:
        code = _run(member, MemberChannel(sock), parent)
    except BaseException:  # noqa: BLE001 - there is nothing above
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _run(member: bytes, stream: MemberChannel, parent: int) -> int:
    start, descriptors = _receive_start(stream)
    description, payload, *here = start.bodies
    if _RUNS_EXIT_HANDLERS:
        # What the process has registered that this one was forked from is not its own.
        atexit._clear()
    # So is its log: as in a new process, the root logger has no handlers.
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    told = preparation.unpack(description)
    multiprocessing.set_start_method(None, force=True)
    preparation.adopt(told, here[0] if here else b"")
    _adopt_parent(told["parent_pid"])
    Bound.descriptors = descriptors
    program = Program(told["secret"], member, stream, where=tuple(told["where"]))
    membership.enter(program)
    world = World(OrderedDict())
    script.enter(world.main)
    prepare_inner_processes()
    pickled.arrive_at(world)
    # Proxies count themselves when the process has its name and key.
    current: Any = multiprocessing.current_process()
    current._inheriting = True
    try:
        started: Any = reduction.loads(payload)
    except BaseException:  # noqa: BLE001 - code of the program's own
        traceback.print_exc()
        print(
            f"manyhands: the process does not load on {socket.gethostname()}: install its modules "
            "there; what a script defines needs the same Python (major, minor)",
            file=sys.stderr,
        )
        return 1
    del current._inheriting
    pickled.arrive_at(world.running)
    Bound.descriptors = []
    for descriptor in descriptors:
        os.close(descriptor)
    program.channel.say(Began(member, os.getpid()))
    code: int = started._bootstrap(parent)
    if _RUNS_EXIT_HANDLERS:
        atexit._run_exitfuncs()
    membership.leave()
    return code


def _adopt_parent(pid: int) -> None:
    """Have `os.getppid` tell of the process that started this one: its id, or 1 once it has ended.

    The system's is that of the host agent's process, which a program neither knows nor may signal.
    """
    own, of_system = os.getpid(), os.getppid

    def getppid() -> int:
        """Return the parent's process id."""
        if os.getpid() != own:
            return of_system()
        parent = multiprocessing.parent_process()
        return pid if parent is None or parent.is_alive() else _ORPHANED

    # Pickles name it by the module that the system's is of.
    getppid.__module__, getppid.__qualname__ = of_system.__module__, of_system.__qualname__
    for module in (os, sys.modules[of_system.__module__]):
        module.getppid = getppid  # type: ignore[attr-defined]


def _receive_start(stream: MemberChannel) -> tuple[Start, list[int]]:
    """Wait for the agent's first message."""
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    messages: list[tuple[Message, list[int]]] = []
    while not messages:
        if stream.ended:
            os._exit(1)
        poll.poll()
        messages = stream.receive()
    message, descriptors = messages[0]
    assert isinstance(message, Start)
    return message, descriptors


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue
