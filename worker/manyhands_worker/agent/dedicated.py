"""What runs in the process of a member, from its fork to the program's own code.

The client's part, `manyhands.multiprocessing._processes.child`, is called by its name: a node can
have members only if it has what their programs import.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from importlib import import_module
from typing import NamedTuple

from manyhands_shared.processes.lifecycle import die_with_parent
from manyhands_worker.host.processes import lead_group

_CHILD = "manyhands.multiprocessing._processes.child"


class Descriptors(NamedTuple):
    """What a member is forked with. `parent` can be read when its parent has ended."""

    channel: int
    parent: int
    out: int
    err: int


def be_member(name: bytes, descriptors: Descriptors, server: int) -> None:
    """Run a member in this process, which was forked for it. It ends the process.

    Args:
        name: the member's id.
        descriptors: what is its own.
        server: the process that this one was forked from, and ends with.
    """
    lead_group()
    die_with_parent(server)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((null, descriptors.out, descriptors.err)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        # What was printed is there before what the process does next, and lines are not cut into
        # each other.
        stream.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    channel = socket.socket(fileno=descriptors.channel)
    import_module(_CHILD).run(name, channel, descriptors.parent)
