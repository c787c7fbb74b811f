"""A cluster for one command, which starts while the command still imports what it needs itself."""

from __future__ import annotations

from manyhands._local.embedded import EmbeddedCluster
from manyhands.cli import _announced


def begin_cluster(broker: str | None, slots: int | None) -> EmbeddedCluster | None:
    """Begin to start a cluster where no broker is named or found. The caller closes it.

    Raises:
        OSError: the system gives no process.
    """
    if broker or _announced.find() is not None:
        return None
    return EmbeddedCluster(slots, wait=False)
