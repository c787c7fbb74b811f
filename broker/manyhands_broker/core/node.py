"""A node as the scheduler sees it."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core.job import Chunk, Job, Piece


class Node:
    """One incarnation of a node: one boot id, from its hello until it says bye or is condemned."""

    __slots__ = (
        "back_by",
        "boot_id",
        "done",
        "draining",
        "functions",
        "held",
        "holds",
        "info",
        "joined",
        "last_result",
        "lease_until",
        "linked",
        "load",
        "loads",
        "name",
        "peer",
        "phi",
        "recall_at",
        "recalling",
        "row",
        "slots",
        "wary",
        "window",
    )

    def __init__(self, peer: bytes, name: str, boot_id: bytes, row: int, now: float) -> None:
        self.peer = peer
        self.name = name
        self.boot_id = boot_id
        self.row = row
        self.joined = now
        self.info: dict[str, Any] = {}
        self.slots = 0
        self.window = 0
        self.linked = True
        #: Until when an unlinked node may come back.
        self.back_by = now
        self.draining = False
        self.lease_until = now
        self.last_result = now
        #: Tasks held, in all and by chunk.
        self.held = 0
        self.holds: dict[Chunk, int] = {}
        #: Seconds of work held, by the estimates of the time of assignment; and its parts: job →
        #: [tasks, seconds each].
        self.load = 0.0
        self.loads: dict[Job, list[float]] = {}
        #: Held tasks that are suspected of having ended a node: no others wait behind them.
        self.wary = 0
        #: Digests of the functions that the node has been sent.
        self.functions: set[bytes] = set()
        #: Whether an answer to `Recall` is due.
        self.recalling = False
        #: When it may be asked again, after it had nothing to give.
        self.recall_at = now
        self.phi = 0.0
        self.done = 0

    def gain(self, piece: Piece, each: float) -> None:
        """Count tasks that were assigned here, of about `each` seconds."""
        count = piece.size
        self.held += count
        self.holds[piece.chunk] = self.holds.get(piece.chunk, 0) + count
        entry = self.loads.get(piece.chunk.job)
        if entry is None:
            self.loads[piece.chunk.job] = [count, each]
            self.load += count * each
        else:
            self.load += (entry[0] + count) * each - entry[0] * entry[1]
            entry[0] += count
            entry[1] = each

    def lose(self, piece: Piece) -> None:
        """Count tasks that are no longer here."""
        count = piece.size
        self.held -= count
        left = self.holds[piece.chunk] - count
        if left:
            self.holds[piece.chunk] = left
        else:
            del self.holds[piece.chunk]
        job = piece.chunk.job
        entry = self.loads[job]
        entry[0] -= count
        self.load -= count * entry[1]
        if not entry[0]:
            del self.loads[job]
        if not self.held:
            self.load = 0.0  # what rounding left
        if self.wary:
            self.wary -= sum(index in job.suspects for index in piece.indices)
