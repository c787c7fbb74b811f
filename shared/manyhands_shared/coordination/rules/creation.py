"""Making objects of the facts that a member tells."""

from __future__ import annotations

from collections.abc import Sequence

from manyhands_shared.coordination.kinds import MAX_PARTIES, MAX_VALUE, Kind
from manyhands_shared.coordination.rules.barrier import BarrierRules
from manyhands_shared.coordination.rules.event import EventRules
from manyhands_shared.coordination.rules.lock import LockRules
from manyhands_shared.coordination.rules.model import SyncObject
from manyhands_shared.coordination.rules.queue import QueueRules
from manyhands_shared.coordination.rules.semaphore import SemaphoreRules

#: How many facts each kind has.
_FACTS = {Kind.LOCK: 0, Kind.SEMAPHORE: 2, Kind.EVENT: 0, Kind.BARRIER: 1, Kind.QUEUE: 1}


def create(kind: int, facts: Sequence[int]) -> SyncObject | None:
    """Return a new object, or `None` if there is no such kind or its facts are out of bounds.

    Facts: a semaphore's value and maximum, a barrier's parties, a queue's `maxsize` (0: none).
    """
    if kind not in _FACTS or len(facts) != _FACTS[Kind(kind)]:
        return None
    made: SyncObject | None = None
    match Kind(kind), *facts:
        case Kind.LOCK, *_:
            made = LockRules()
        case Kind.EVENT, *_:
            made = EventRules()
        case Kind.SEMAPHORE, value, most if 0 <= value <= most <= MAX_VALUE:
            made = SemaphoreRules(value, most)
        case Kind.BARRIER, parties if 1 <= parties <= MAX_PARTIES:
            made = BarrierRules(parties)
        case Kind.QUEUE, maxsize if 0 <= maxsize <= MAX_VALUE:
            made = QueueRules(maxsize)
    return made


def blank(kind: Kind) -> SyncObject:
    """Return an object that `restore` is about to fill."""
    made = create(kind, (1, 1)[: _FACTS[kind]])
    assert made is not None
    return made
