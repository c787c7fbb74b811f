"""What a pool child reports: checked, with its results out of pipe, slab or segment."""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from manyhands_shared.payloads.payload import Buffer, Payload, total
from manyhands_shared.processes.descriptors import scarce
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.status import Status
from manyhands_shared.shm import Lender, cut, fits, forget, shared_view, span
from manyhands_worker.child_status import REVOKED
from manyhands_worker.core.events import Finished
from manyhands_worker.core.model import Block
from manyhands_worker.ipc.segments import SHUT
from manyhands_worker.ipc.slab import SlabLedger
from manyhands_worker.values.held_result import HeldSegment

if TYPE_CHECKING:
    from manyhands_worker.values.result_server import ResultServer

#: What a child may say of why it is to be replaced.
_WORN_CHARACTERS = 120
#: What a child may say of a task; whether a result is held is the node's word.
_STATUSES = frozenset({*Status, REVOKED} - {Status.HELD})


class ReportReader:
    """Turns the reports of one child into events of the core. It believes no field of them.

    Args:
        slot: the child's.
        fds: descriptors that have come from the child, and are not used yet.
        ledger: of the child's slab.
        marks: which of its segments are in use; shared with the child.
        lender: lends results to clients of this host; None: they all go through the node.
        server: serves them to clients of other hosts.
    """

    def __init__(
        self,
        slot: int,
        fds: deque[int],
        ledger: SlabLedger,
        marks: memoryview,
        lender: Lender | None,
        server: ResultServer | None,
    ) -> None:
        self._slot = slot
        self._fds = fds
        self._ledger = ledger
        self._marks = marks
        self._lender = lender
        self._server = server
        #: Some of the child's tasks may run once only.
        self.once = False

    def hold(self, *, allowed: bool) -> None:
        """Say whether the child may hand over results for the node to hold."""
        self._marks[SHUT] = not allowed

    def read(self, header: list[object], buffers: list[bytearray]) -> Finished:
        """Check what the child has sent; return it with its results, held or at hand.

        Raises:
            SlabError, TypeError, ValueError, IndexError: it makes no sense.
        """
        first, statuses, bodies, seconds, worn, measured, _ = header
        if not (
            type(first) is int
            and type(statuses) is bytes
            and type(bodies) is list
            and type(seconds) is float
            and type(worn) is str
            and len(statuses) == len(bodies)
            and _STATUSES.issuperset(statuses)
        ):
            raise ValueError("a report of other fields")
        run = _run(measured)
        if set(map(type, bodies)) <= {bytes}:
            nbytes = sum(map(len, bodies))
            worn = worn[:_WORN_CHARACTERS] if worn.isprintable() else "is not fit"
            return Finished(
                self._slot, first, statuses, bodies, seconds, nbytes, worn=worn, run=run
            )
        blocks: list[Block] = []
        held_results: list[HeldSegment] = []
        sorts = bytearray(statuses)
        rest = iter(buffers)
        payloads: list[Payload] = []
        frames = 0
        try:
            for place, body in enumerate(bodies):
                if isinstance(body, bytes):
                    payloads.append(body)
                    continue
                if isinstance(body, list) and body[0] < 0:
                    result = self._from_segment(-1 - body[0], body[1:])
                    if result is None:  # nothing is behind a large result, which goes out at once
                        lost = self._lost()
                        sorts[place:], payloads = bytes([lost[0]]), [*payloads, lost[1]]
                        break
                    if isinstance(result, HeldSegment):
                        held_results.append(result)
                        sorts[place] = Status.HELD
                        payloads.append(result.ticket)
                    else:
                        frames += len(result)
                        payloads.append(result)
                    continue
                if isinstance(body, int):
                    parts: tuple[Buffer, ...] = tuple(islice(rest, body))
                    if len(parts) != body or not parts:
                        raise ValueError("a result without its buffers")
                else:
                    last = first + len(bodies) - 1
                    block, parts = self._ledger.take(first, last, body[0], body[1:])
                    blocks.append(block)
                frames += len(parts)
                payloads.append(parts)
        except BaseException:
            for result in held_results:
                result.free()
            raise
        return Finished(
            self._slot,
            first,
            bytes(sorts),
            payloads,
            seconds,
            total(payloads),
            frames,
            blocks,
            held_results,
            run=run,
        )

    def _from_segment(
        self, number: int, lengths: list[int]
    ) -> HeldSegment | tuple[Buffer, ...] | None:
        """A result in one of the child's segments: held, or to be sent; None if it did not come."""
        marks = self._marks
        if not 0 <= number < SHUT:
            raise ValueError("a segment of an impossible number")

        def clear() -> None:
            marks[number] = 0

        def release(fd: int) -> None:
            if marks[SHUT]:  # there is no room for what the child could only use again
                forget(fd, span(lengths))
            clear()

        if not self._fds:
            self.hold(allowed=False)
            clear()
            return None
        fd = self._fds.popleft()
        if self._lender is None or not lengths or min(lengths) < 0 or not fits(fd, span(lengths)):
            os.close(fd)
            raise ValueError("a segment that is none")
        marks[number] = 1
        if not scarce(fd):
            return HeldSegment(self._lender, self._server, fd, lengths, release)
        self.hold(allowed=False)
        try:
            return cut(shared_view(fd, span(lengths), clear), lengths)
        finally:
            os.close(fd)

    def _lost(self) -> tuple[int, bytes]:
        """What becomes of a task whose result came without its descriptor: none was free."""
        if not self.once:
            return REVOKED, b""  # it runs again, and its result comes another way
        text = "the node had no descriptor left for the result"
        return Status.UNSENDABLE, Failure("manyhands.ResultError", text).encode()


def _run(measured: object) -> tuple[float, float, int] | None:
    """What a report says of when its tasks ran, in seconds; `None` if they took no time.

    Raises:
        ValueError, TypeError: it is not three integers.
    """
    if type(measured) is not list:
        raise TypeError("a report without a run")
    begun, cpu, peak = map(int, measured)
    return (begun / 1e9, max(0, cpu) / 1e6, max(0, peak)) if begun > 0 else None
