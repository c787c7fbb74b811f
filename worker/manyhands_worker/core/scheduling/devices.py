"""Which of a node's devices a task has.

The broker counts: it sends no more tasks than the node has devices for. The node decides which device
each task gets. A task takes whole devices, or a part of one. Parts share a device, and never lie on two.
So what is free in sum may be free in no one place: then a task waits here until one has room.

A library binds a process to the devices that it sees at first, and looks at no variable again. So a
child that has had devices runs tasks with these very ones. For others it is replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

#: Three tenths, taken and given back, are not quite three tenths.
_HAIR = 1e-9


@dataclass(slots=True)
class Grant:
    """Devices of the task in a slot, and what it takes of each. `lent`: it waits for tasks."""

    names: tuple[str, ...]
    each: float
    lent: bool = False


class Devices:
    """Devices by name, and what is free of each.

    Args:
        offered: what tasks may take of each: 1, or less where the node offers a part.
    """

    def __init__(self, offered: Mapping[str, float]) -> None:
        self._offered = dict(offered)
        self._free = dict(offered)
        #: By the slot's number.
        self.grants: dict[int, Grant] = {}

    def choice(self, amount: float, bound: tuple[str, ...] = ()) -> tuple[str, ...] | None:
        """Return the devices that a task would get now; None if there is no room.

        Args:
            amount: a whole number of devices, or a part of one.
            bound: those that are as good as any others and better for the child, if they have room.
        """
        if not self._offered:  # the node knows none by name
            return ()
        each, count = _split(amount)
        fitting = [name for name, free in self._free.items() if free >= each - _HAIR]
        if len(fitting) < count:
            return None
        if each < 1.0:
            # Parts go together, so that whole devices stay whole.
            least = min(self._free[name] for name in fitting)
            fitting = [name for name in fitting if self._free[name] <= least + _HAIR]
        if len(bound) == count and set(bound) <= set(fitting):
            return bound
        return tuple(fitting[:count])

    def grant(self, slot: int, amount: float, names: tuple[str, ...]) -> None:
        """The task that starts in a slot has these devices until `release`."""
        grant = self.grants[slot] = Grant(names, _split(amount)[0])
        self._take(grant, 1)

    def release(self, slot: int) -> None:
        """The task in a slot is over, or its child is dead; it may have had none."""
        grant = self.grants.pop(slot, None)
        if grant is not None and not grant.lent:
            self._take(grant, -1)

    def lend(self, slot: int, *, on: bool) -> None:
        """The task in a slot waits for tasks, which may have its devices meanwhile; or no more.

        When it goes on it has them at once, as it has its slot, together with a task that has begun.
        """
        grant = self.grants.get(slot)
        if grant is not None and grant.lent != on:
            grant.lent = on
            self._take(grant, -1 if on else 1)

    def _take(self, grant: Grant, sign: int) -> None:
        for name in grant.names:
            self._free[name] -= sign * grant.each
            if abs(self._free[name] - self._offered[name]) < _HAIR:
                self._free[name] = self._offered[name]

    def validate(self, busy: Collection[int]) -> None:
        """Check that slots with tasks have devices, and that the figures are right.

        Raises:
            AssertionError: something is wrong.
        """
        assert self.grants.keys() <= set(busy), "an idle slot has devices"
        for name, offered in self._offered.items():
            taken = sum(
                grant.each
                for grant in self.grants.values()
                if name in grant.names and not grant.lent
            )
            assert abs(self._free[name] - (offered - taken)) < 1e-6, f"{name} is miscounted"


def _split(amount: float) -> tuple[float, int]:
    """Return what is taken of each device, and of how many."""
    return (amount, 1) if amount < 1.0 else (1.0, round(amount))
