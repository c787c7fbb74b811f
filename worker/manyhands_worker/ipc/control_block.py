"""The few words of shared memory through which a node and one child agree without a message.

Every task handed to a child has a serial number, rising by one. The child *claims* a serial by
writing it, and only then looks at the limit: it runs a task only if its serial is below. To take
tasks back, the node lowers the limit, waits for `SETTLE_SECONDS`, and reads the claim. No store
buffer holds a word back for nearly as long. What lies above the claim has not been started and
never will be, even if the child is stuck in a task and answers nothing. What is claimed at or
above the limit, the child itself reports as revoked (`child_status`).

`done` follows the claim. While they differ, the child is busy with the claimed task. If it dies then,
that task and no other is to blame.
"""

from __future__ import annotations

import sys
from multiprocessing.sharedctypes import RawArray
from typing import Any

from manyhands_shared.tracing import Noted

#: Serial of the task that the child started last.
CLAIM = 0
#: Serial of the task that the child finished last.
DONE = 1
#: Tasks with this serial or a higher one are revoked.
LIMIT = 2
#: When the claimed task was started: `time.monotonic_ns`.
STARTED = 3
#: 1 as soon as the child is ready for work.
READY = 4
#: Up to where the node has freed the child's slab (see `slab`).
FREED = 5
#: 1 while the task waits for tasks.
LENDS = 6
#: The serial of a traced task that runs, and from here on what is noted of its spans.
TRACED = 7
_NOTED = slice(8, 15)

_WORDS = 16  # two cache lines
_WORD = (1 << 64) - 1

#: No limit: nothing is revoked.
NO_LIMIT = sys.maxsize
#: Exit code of a child that cannot report any more, for a task has closed its end of the pipe.
DISCONNECTED = 87
#: From lowering the limit until the claim may be read.
SETTLE_SECONDS = 0.001


def new_block() -> Any:
    """The shared array for one child, handed to it when it starts."""
    block = RawArray("Q", _WORDS)
    words(block)[LIMIT] = NO_LIMIT
    return block


def words(block: Any) -> memoryview:
    """A view of the array whose items are read and written as whole 64-bit words."""
    return memoryview(block).cast("B").cast("Q")


def note(control: memoryview, noted: Noted | None) -> None:
    """Note what the spans of the claimed task are; `None`: they were made."""
    control[TRACED] = 0
    if noted is not None:
        trace, *others = noted
        for place, word in enumerate((trace >> 64, trace, *others), _NOTED.start):
            control[place] = word & _WORD
        control[TRACED] = control[CLAIM]


def noted(control: memoryview) -> Noted | None:
    """Return what was noted of the claimed task, if it was traced."""
    if not control[TRACED] or control[TRACED] != control[CLAIM]:
        return None
    high, low, *others = control[_NOTED].tolist()
    return Noted(high << 64 | low, *others)
