"""Descriptors that wait at a host agent for the process that unpickles them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from manyhands_worker.agent.core.model import NO_MEMBER

#: How long deposits of a program stay that has no process left on this host.
LINGER_SECONDS = 60.0


@dataclass(slots=True)
class Deposit:
    """A descriptor, and by whom it may be claimed."""

    descriptor: int
    program: bytes
    way: int
    kept: bool
    holder: bytes


class Deposits:
    """What waits here, by the name of its end.

    Args:
        close: closes descriptors.
    """

    def __init__(self, close: Callable[[list[int]], None]) -> None:
        self._close = close
        self._deposits: dict[bytes, Deposit] = {}
        self._of_program: dict[bytes, set[bytes]] = {}
        self._of_holder: dict[bytes, set[bytes]] = {}
        self._lingering: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._deposits)

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        return next(iter(self._lingering.values()), None)

    def add(self, end: bytes, deposit: Deposit) -> None:
        """Keep a descriptor. A name is used once."""
        self.drop(end)
        self._deposits[end] = deposit
        self._of_program.setdefault(deposit.program, set()).add(end)
        self._lingering.pop(deposit.program, None)
        if deposit.holder != NO_MEMBER:
            self._of_holder.setdefault(deposit.holder, set()).add(end)

    def find(self, end: bytes, program: bytes) -> Deposit | None:
        """Return what a process of a program has deposited."""
        found = self._deposits.get(end)
        return found if found is not None and found.program == program else None

    def take(self, end: bytes) -> None:
        """Forget a deposit, whose descriptor belongs to the caller now."""
        deposit = self._deposits.pop(end)
        for table, name in (
            (self._of_program, deposit.program),
            (self._of_holder, deposit.holder),
        ):
            names = table.get(name)
            if names is not None:
                names.discard(end)
                if not names:
                    del table[name]

    def drop(self, end: bytes) -> None:
        """Close a deposit that is not claimed any more."""
        deposit = self._deposits.get(end)
        if deposit is not None:
            self.take(end)
            self._close([deposit.descriptor])

    def holder_ended(self, member: bytes) -> None:
        """Drop what was for a process that has ended, or was not started."""
        for end in list(self._of_holder.get(member, ())):
            self.drop(end)

    def program_ended(self, program: bytes) -> None:
        """Drop what is of a program."""
        for end in list(self._of_program.get(program, ())):
            self.drop(end)

    def program_left(self, program: bytes, now: float) -> None:
        """The last process of a program here has ended; others may claim from elsewhere."""
        if program in self._of_program:
            self._lingering[program] = now + LINGER_SECONDS

    def tick(self, now: float) -> None:
        """Drop what has lingered."""
        while self._lingering and next(iter(self._lingering.values())) <= now:
            self.program_ended(self._lingering.popitem(last=False)[0])
