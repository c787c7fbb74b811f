"""Memory lent between the processes of one host, without a copy and without a name in a file system.

Large values lie in *segments*: anonymous files in memory (`memfd_create`). A process that has one is a
`Lender`. It listens on an abstract Unix socket and passes the descriptor to processes of the same
user that know the segment's key. They are `Borrower`s: they map it, and give it back when its views
are gone. A segment lives as long as a process has it open or mapped. So the death of either side does
not harm the other, and however a process ends, nothing is left behind.

Linux only; `AVAILABLE` says whether it works here. Everywhere else data takes the way through sockets.
"""

from manyhands_shared.shm.arena import Allocation, Arena
from manyhands_shared.shm.borrower import Borrower, private_view, shared_view
from manyhands_shared.shm.lender import Lender
from manyhands_shared.shm.mapping import forget, make_own, map_segment
from manyhands_shared.shm.segment import AVAILABLE, cut, fits, host_id, lay, new_segment, span

__all__ = [
    "AVAILABLE",
    "Allocation",
    "Arena",
    "Borrower",
    "Lender",
    "cut",
    "fits",
    "forget",
    "host_id",
    "lay",
    "make_own",
    "map_segment",
    "new_segment",
    "private_view",
    "shared_view",
    "span",
]
