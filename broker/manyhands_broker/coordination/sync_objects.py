"""Objects that members share: locks, semaphores, events, conditions, barriers, queues."""

from __future__ import annotations

from typing import Any

from manyhands_broker.coordination.model import Member, Program
from manyhands_broker.coordination.records import RecordKind
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.protocol.messages.coordination import ItemsTaken, Request, Withdraw


class SyncObjects:
    """What requests do. It answers by `state.respond`, waits by `state.timers`."""

    def __init__(self, state: CoordinationState) -> None:
        self._state = state

    def request(self, member: Member, message: Request, now: float) -> None:
        """Take a request of a living member, new or repeated."""

    def withdraw(self, member: Member, message: Withdraw, now: float) -> None:
        """Let a request wait no more, and undo what it was granted."""

    def items_taken(self, member: Member, message: ItemsTaken, now: float) -> None:
        """Let go of items that a member has."""

    def member_ended(self, member: Member, now: float) -> None:
        """Pass on what a member held; `by_signal` and `host_lost` say how it ended."""

    def program_ended(self, program: Program) -> None:
        """Drop everything of a program."""

    def flush(self) -> None:
        """End a drain: write what has changed, by `state.write`."""

    def restore(self, kind: RecordKind, key: bytes, payload: Any) -> None:
        """Take a record back that this wrote. Programs and members come first."""

    def restored(self, now: float) -> None:
        """All records are back: set what timers there were."""

    def waits(self, member: Member, now: float) -> list[dict[str, Any]]:
        """Return what a member waits for, for people: object, kind, seconds, made at, held by."""
        del member, now
        return []

    def validate(self) -> None:
        """Check every invariant.

        Raises:
            AssertionError: naming what does not add up.
        """
