"""What the system may lack for a while: processes, threads, descriptors, memory."""

from __future__ import annotations

import errno

from manyhands_shared.processes.descriptors import NO_DESCRIPTOR

_LACKS = NO_DESCRIPTOR | {errno.EAGAIN, errno.ENOMEM}


def is_shortage(error: OSError) -> bool:
    """Whether what failed may succeed later, for the system lacked something just then."""
    return error.errno in _LACKS
