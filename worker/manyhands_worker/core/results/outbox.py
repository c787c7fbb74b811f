"""Results on their way to the broker: waiting to be sent, and sent but not acknowledged.

Numbering starts at 1 with each welcome. What was not acknowledged by then is sent again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import ResultGroup, Results
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.model import Block, HeldResult, Key

MESSAGE_TASKS = 4_096
MESSAGE_BYTES = 4 << 20
_MESSAGE_FRAMES = 16_384


@dataclass(slots=True)
class Ended:
    """Tasks of one job and attempt that ended, and what their bodies weigh."""

    key: Key
    indices: list[int]
    statuses: bytes
    bodies: list[Payload]
    seconds: float
    nbytes: int
    frames: int
    blocks: list[Block | HeldResult]

    @property
    def final(self) -> list[int]:
        """Those of the tasks that have ended for good: all but the held ones."""
        if Status.HELD not in self.statuses:
            return self.indices
        pairs = zip(self.indices, self.statuses, strict=True)
        return [index for index, status in pairs if status != Status.HELD]


class Outbox:
    """All results that the broker may not have yet. `nbytes` is what they weigh."""

    def __init__(self) -> None:
        self._waiting: deque[Ended] = deque()
        self._sent: deque[tuple[int, list[Ended]]] = deque()
        self._seq = 0
        self.nbytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._sent)

    def add(self, ended: Ended) -> None:
        """More tasks ended."""
        self.nbytes += ended.nbytes
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.key != ended.key or not _fits(last, ended):
            self._waiting.append(ended)
            return
        last.indices += ended.indices
        last.statuses += ended.statuses
        last.bodies += ended.bodies
        last.seconds += ended.seconds
        last.nbytes += ended.nbytes
        last.frames += ended.frames
        last.blocks += ended.blocks

    def next_messages(self) -> list[Results]:
        """Everything that waits, as messages to be sent now."""
        messages = []
        while self._waiting:
            group = [self._waiting.popleft()]
            tasks, nbytes, frames = len(group[0].indices), group[0].nbytes, group[0].frames
            while self._waiting:
                ended = self._waiting[0]
                tasks += len(ended.indices)
                nbytes += ended.nbytes
                frames += ended.frames
                if tasks > MESSAGE_TASKS or nbytes > MESSAGE_BYTES or frames > _MESSAGE_FRAMES:
                    break
                group.append(self._waiting.popleft())
            self._seq += 1
            self._sent.append((self._seq, group))
            messages.append(Results(self._seq, [_as_group(ended) for ended in group]))
        return messages

    def acknowledge(self, seq: int) -> list[Ended]:
        """Forget what was sent up to `seq`; returns it."""
        gone: list[Ended] = []
        while self._sent and self._sent[0][0] <= seq:
            gone += self._sent.popleft()[1]
        self.nbytes -= sum(ended.nbytes for ended in gone)
        return gone

    def restart(self, counts: Callable[[Key, int], bool]) -> list[Block | HeldResult]:
        """Number from 1 again, with everything unacknowledged waiting that still `counts`.

        What is held for clients is left out, for that is told anew as a whole. Returns the blocks of
        what does not count.
        """
        everything = [ended for _, group in self._sent for ended in group] + [*self._waiting]
        self._sent.clear()
        self._waiting.clear()
        self._seq = 0
        self.nbytes = 0
        free: list[Block | HeldResult] = []
        for ended in everything:
            stay = [
                at
                for at, index in enumerate(ended.indices)
                if ended.statuses[at] != Status.HELD and counts(ended.key, index)
            ]
            if not stay:
                free += ended.blocks
                continue
            if len(stay) < len(ended.indices):
                ended.indices = [ended.indices[at] for at in stay]
                ended.statuses = bytes(ended.statuses[at] for at in stay)
                ended.bodies = [ended.bodies[at] for at in stay]
            else:  # what was sent may still be looked at, and more may be added to this
                ended.indices, ended.bodies = ended.indices[:], ended.bodies[:]
            self._waiting.append(ended)
            self.nbytes += ended.nbytes
        return free

    def entries(self) -> list[Ended]:
        """Everything in here."""
        return [ended for _, group in self._sent for ended in group] + [*self._waiting]


def _fits(last: Ended, ended: Ended) -> bool:
    return (
        len(last.indices) + len(ended.indices) <= MESSAGE_TASKS
        and last.nbytes + ended.nbytes <= MESSAGE_BYTES
        and last.frames + ended.frames <= _MESSAGE_FRAMES
        # A held task may end once more, and a group names each task once.
        and (Status.HELD not in last.statuses or set(last.indices).isdisjoint(ended.indices))
    )


def _as_group(ended: Ended) -> ResultGroup:
    job, attempt = ended.key
    return ResultGroup(job, attempt, ended.indices, ended.statuses, ended.bodies, ended.seconds)
