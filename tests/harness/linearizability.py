"""Whether a history of concurrent operations on one object is linearizable.

Each operation took effect at one moment between its call and its return, as if the object had done one
at a time. The search is depth first over operations that may come next, and remembers what it has seen:
which operations are done, and the object's state. An operation that never returned may have taken
effect or not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any


@dataclass(frozen=True, slots=True)
class Operation:
    """What a process did. `returned` is infinite, and `result` unknown, for one that never returned."""

    process: str
    name: str
    argument: Any
    called: float
    returned: float = inf
    result: Any = None

    @property
    def pending(self) -> bool:
        """Whether it never returned."""
        return self.returned == inf


#: The states in which the object may be after an operation; none if its result cannot be.
Step = Callable[[Any, Operation], Iterable[Hashable]]


def linearizable(history: Sequence[Operation], initial: Hashable, step: Step) -> bool:
    """Return whether the object, in state `initial` at first, can have done this."""
    ended = sorted((one for one in history if not one.pending), key=lambda one: one.called)
    pending = sorted((one for one in history if one.pending), key=lambda one: one.called)
    # All before `low` are done, those behind it that are done are bits; and so are pending ones.
    start = (0, 0, 0, initial)
    todo, seen = [start], {start}
    while todo:
        low, done, happened, state = todo.pop()
        if low == len(ended):
            return True
        following = [
            (*_without(low, done, at), happened, after)
            for at in _next(ended, low, done)
            for after in step(state, ended[at])
        ]
        first = _first_return(ended, low, done)
        for at, one in enumerate(pending):
            if one.called > first:
                break
            if not happened >> at & 1:
                moved = happened | 1 << at
                following += [(low, done, moved, after) for after in step(state, one)]
        # What returned is tried before what is pending: most of that never happened.
        for config in reversed(following):
            if config not in seen:
                seen.add(config)
                todo.append(config)
    return False


def _first_return(ended: Sequence[Operation], low: int, done: int) -> float:
    """Return when the first of those that are not done has returned: none may begin behind that."""
    first = inf
    at = low
    while at < len(ended) and ended[at].called <= first:
        if not done >> (at - low) & 1:
            first = min(first, ended[at].returned)
        at += 1
    return first


def _next(ended: Sequence[Operation], low: int, done: int) -> Iterable[int]:
    first = _first_return(ended, low, done)
    at = low
    while at < len(ended) and ended[at].called <= first:
        if not done >> (at - low) & 1:
            yield at
        at += 1


def _without(low: int, done: int, at: int) -> tuple[int, int]:
    """Return what is done when `at` is done too."""
    done |= 1 << (at - low)
    while done & 1:
        low, done = low + 1, done >> 1
    return low, done


# Objects, one operation at a time. A process that was killed has an operation `die`.


def lock(state: Any, one: Operation) -> Iterable[Hashable]:
    """A lock with its fence: (holder, fence)."""
    holder, fence = state
    if one.name == "acquire":
        if one.result is False:
            return [state] if holder else []
        given = one.pending or one.result == fence
        return [(one.process, fence)] if not holder and given else []
    if one.name == "release":
        return [("", fence)] if holder == one.process else []
    return [("", fence + 2)] if holder == one.process else [state]


def semaphore(value: Any, one: Operation) -> Iterable[Hashable]:
    """A semaphore: its value. Tokens of the dead stay taken."""
    if one.name == "acquire":
        if one.result is False:
            return [value] if not value else []
        return [value - 1] if value else []
    return [value + 1] if one.name == "release" else [value]


def event(flag: Any, one: Operation) -> Iterable[Hashable]:
    """An event: its flag."""
    if one.name in ("set", "clear"):
        return [one.name == "set"]
    return [flag] if one.name == "die" or one.result == flag else []


def queue(state: Any, one: Operation) -> Iterable[Hashable]:
    """A queue: (its items, what processes took and may not have got).

    What a process was being handed when it was killed is lost with it, or is the first again.
    """
    items, handed = state
    if one.name == "put":
        return [((*items, one.argument), handed)]
    if one.name == "get":
        if one.pending:
            return [(items[1:], (*handed, (one.process, items[0])))] if items else []
        if one.result is None:
            return [] if items else [state]
        return [(items[1:], handed)] if items and items[0] == one.result else []
    mine = [item for process, item in handed if process == one.process]
    rest = tuple(pair for pair in handed if pair[0] != one.process)
    return [(items, rest), ((*mine, *items), rest)] if mine else [state]


def queue_faults(history: Sequence[Operation]) -> list[str]:
    """Return what no FIFO queue can have done, where every item is put once. It takes no search.

    An item is certainly in the queue from the return of its `put` to the call of its `get`. So the order
    of two items is certain where one is there before the other is put. A `get` that found nothing needs
    a moment at which nothing is certainly there. An item may be lost, or come late, if it went to a
    process that was killed in its `get`. There may be as many exceptions as there were such processes.
    """
    puts = {one.argument: one for one in history if one.name == "put"}
    gets = {one.result: one for one in history if one.name == "get" and one.result is not None}
    taken = sum(one.name == "get" and one.result is not None for one in history)
    faults = ["an item came twice"] if taken > len(gets) else []
    for item, get in gets.items():
        if item not in puts or get.returned < puts[item].called:
            faults.append(f"{item} came before it was put")
    exceptions = sum(one.name == "get" and one.pending for one in history)
    overtaken = _overtaken(puts, gets)
    if len(overtaken) > exceptions:
        faults += [f"{item} was overtaken, or is lost" for item in overtaken]
    if not exceptions:
        faults += _never_empty(history, puts, gets)
    return faults


def _overtaken(puts: dict[Any, Operation], gets: dict[Any, Operation]) -> list[Any]:
    """Return items before which others came that were put later."""
    # By when they were put: of all that were put after an item, when did the first come out?
    by_call = sorted(puts.values(), key=lambda one: one.called)
    first_out = [inf] * (len(by_call) + 1)
    for at in range(len(by_call) - 1, -1, -1):
        get = gets.get(by_call[at].argument)
        first_out[at] = min(first_out[at + 1], inf if get is None else get.returned)
    calls = [one.called for one in by_call]
    found = []
    for item, put in puts.items():
        later = bisect_right(calls, put.returned)
        get = gets.get(item)
        if first_out[later] < (inf if get is None else get.called):
            found.append(item)
    return found


def _never_empty(
    history: Sequence[Operation], puts: dict[Any, Operation], gets: dict[Any, Operation]
) -> list[str]:
    """Return each `get` that found nothing although something was there all the time."""
    spans = sorted(
        (put.returned, gets[item].called if item in gets else inf)
        for item, put in puts.items()
        if item not in gets or put.returned < gets[item].called
    )
    merged: list[list[float]] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    begins = [begin for begin, _ in merged]
    faults = []
    for one in history:
        if one.name == "get" and one.result is None and not one.pending:
            at = bisect_right(begins, one.called) - 1
            if at >= 0 and merged[at][0] < one.called and one.returned < merged[at][1]:
                faults.append(f"nothing was found at {one.called} although something was there")
    return faults
