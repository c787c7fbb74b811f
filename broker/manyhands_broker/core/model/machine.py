"""What a node's machine is under besides the node's tasks, from what its heartbeats say.

Memory: less is available than the node wants to have free. Load: other programs keep most of the cores
busy. Both set in at one figure and end at another, so that a machine on the edge does not go back and
forth. Figures are as old as the last heartbeat, and those that are too old count as none. Without
figures a machine is under no pressure, for lost datagrams must never keep work from a node.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Kinds of pressure; a machine under both is short of memory above all.
NONE, LOAD, MEMORY = "", "load", "memory"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node says once: bytes to be left available (0: any amount is enough), and cores."""

    reserve: int = 0
    cores: int = 1
