"""The design of the lone call in every order of its steps: see `manyhands._io.inline`.

A caller submits tasks and waits for each. Its lines may end in an exception at any step; then it goes
on with the next task. Or a signal handler comes in that submits a task itself and waits for it. When
nothing more can happen, every task that was submitted has ended, at the session and for its caller.
One side at a time uses the link. Each handling is left out in turn, and is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

NOT_ONE = -1
HANDLER = 9  # the number of the task that a signal handler submits

HARMS = {
    "does not check again before it sleeps",
    "says that it has rung before it rings",
    "a torn send is not marked",
    "a torn spin is not marked",
    "a torn link is used again",
    "sends before it logs",
    "goes without ringing",
    "leaves a poller that is not its own any more",
    "a congested link is left to the spinning caller",
    "a mute poller stays mute",
    "an overdue spinner stays",
    "does not ring for its log",
    "the gate is never revoked",
    "an interrupted caller does not ring for its task",
    "the link is taken back without the gate",
}


class Violation(Exception):
    """The design does not hold."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything. Sets and queues are tuples of task numbers."""

    large: int = NOT_ONE  # this task fills the socket, and is always queued
    caller: str = "put"
    task: int = 0
    io: str = "take back"
    gate: str = ""
    revoked: bool = False
    lent: bool = False
    torn: bool = False
    log: tuple[tuple[str, tuple[int, ...]], ...] = ()
    lone: int = NOT_ONE
    spinning: bool = False
    muted: bool = False
    listens_out: bool = False
    congested: bool = False
    garbled: bool = False  # half a message lies on the link
    asleep: int = 0
    sleeps: int = 0
    told: int = 0
    read: int = 0  # the number of the sleep that the caller ends by ringing
    bell: bool = False
    timer: bool = False
    queue: tuple[int, ...] = ()
    at_broker: frozenset[int] = frozenset()
    unanswered: frozenset[int] = frozenset()
    down: tuple[int, ...] = ()
    hand: tuple[int, ...] = ()
    known: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()
    done: frozenset[int] = frozenset()
    given_up: frozenset[int] = frozenset()
    handler: str = ""  # where it stands, while the caller's own lines stand still
    exceptions: int = 0
    handlers: int = 0


def _sent(w: World, tasks: tuple[int, ...]) -> World:
    """Tasks go over the link, unless half a message is in their way."""
    if w.garbled:
        return w
    new = frozenset(tasks) - w.at_broker
    return replace(w, at_broker=w.at_broker | new, unanswered=w.unanswered | new)


def _entered(w: World, tasks: tuple[int, ...]) -> World:
    """Results reach the session, which ends the futures."""
    came = frozenset(tasks) & w.known
    return replace(w, ended=w.ended | came, done=w.done | came)


def caller(  # noqa: C901, PLR0912, PLR0915 - a program, a step a branch
    w: World, tasks: int, harm: str
) -> Iterator[World]:
    """What the caller may do next: mostly one thing."""
    at, k = w.caller, w.task
    stale = w.revoked  # the I/O thread has given up this grant
    if at == "put":
        if k == tasks:
            return
        here = w.asleep > w.told and not w.queue and k != w.large
        yield replace(w, caller="enter to send" if here else "queue")
    elif at == "queue":
        yield replace(w, queue=(*w.queue, k), caller="ring")
    elif at == "ring":
        if w.asleep <= w.told:
            yield replace(w, caller="spin")
        elif harm == "says that it has rung before it rings":
            yield replace(w, told=w.asleep, caller="rings late")
        else:
            yield replace(w, read=w.asleep, bell=True, caller="tell")
    elif at == "rings late":
        yield replace(w, bell=True, caller="spin")
    elif at == "tell":
        yield replace(w, told=w.read, read=0, caller="spin")
    elif at == "enter to send" and not w.gate:
        yield replace(w, gate="caller", revoked=False, caller="may send?")
    elif at == "may send?":
        alone = w.lone == NOT_ONE and w.known <= w.ended and not w.congested
        if not w.lent or not alone or (w.torn and harm != "a torn link is used again"):
            yield replace(w, gate=_left(w), revoked=False, caller="queue")
        elif harm == "sends before it logs":
            yield replace(w, torn=True, caller="send")
        else:
            yield replace(w, torn=harm != "a torn send is not marked", caller="log it")
    elif at == "log it":
        if stale:
            yield replace(w, caller="send")  # into a log that was taken already
        else:
            yield replace(w, log=(*w.log, ("sent", (k,))), caller="send")
    elif at == "send":
        if not stale and not w.lent:
            raise Violation("two at the link")
        went = w if stale else _sent(w, (k,))
        yield replace(went, caller="log late" if harm == "sends before it logs" else "it is out")
    elif at == "log late":
        yield replace(w, log=(*w.log, ("sent", (k,))), caller="it is out")
    elif at == "it is out":
        if stale:
            yield replace(w, revoked=False, caller="spin" if k in w.known else "queue")
        else:
            yield replace(w, lone=k, torn=False, gate=_left(w), caller="spin")
    elif at == "spin":
        yield replace(w, caller="sleep")
        if not w.gate and k not in w.done:
            yield replace(w, gate="caller", revoked=False, caller="may spin?")
    elif at == "may spin?":
        refused = w.spinning or w.congested or (w.torn and harm != "a torn link is used again")
        others = len(w.known - w.ended) + (w.lone != NOT_ONE) > 1
        if stale or not w.lent or refused or others:
            yield replace(w, gate=_left(w), revoked=False, caller="sleep")
        else:
            yield replace(w, spinning=True, muted=True, gate=_left(w), caller="spin on")
    elif at == "spin on":
        yield replace(w, caller="leave")  # it came, or the time is up
        if w.down and not w.gate:
            yield replace(w, gate="caller", revoked=False, caller="may receive?")
    elif at == "may receive?":
        if stale or not w.spinning or (w.torn and harm != "a torn link is used again"):
            yield replace(w, gate=_left(w), revoked=False, caller="sleep" if stale else "leave")
        elif not w.lent:
            yield replace(w, gate=_left(w), caller="spin on")
        else:
            yield replace(w, torn=harm != "a torn spin is not marked", caller="receive")
    elif at == "receive":
        if stale:
            yield replace(w, revoked=False, caller="sleep")
        elif not w.lent:
            raise Violation("two at the link")
        else:
            yield replace(w, hand=w.down, down=(), caller="log that")
    elif at == "log that":
        if stale:
            yield replace(w, revoked=False, hand=(), caller="sleep")
        else:
            yield replace(w, log=(*w.log, ("arrived", w.hand)), torn=False, caller="settle")
    elif at == "settle":
        mine = k in w.hand
        yield replace(
            w,
            done=w.done | {k} if mine else w.done,
            lone=NOT_ONE if mine and w.lone == k and not stale else w.lone,
            bell=w.bell or w.hand != (k,),
            hand=(),
            gate=_left(w),
            revoked=False,
            caller="sleep" if stale else "spin on",
        )
    elif at == "leave" and not w.gate:
        yield replace(w, gate="caller", revoked=False, caller="give back")
    elif at == "give back":
        left = replace(w, gate=_left(w), revoked=False, caller="sleep")
        if stale:
            yield left
        elif w.spinning or harm == "leaves a poller that is not its own any more":
            ring = bool(w.log) and harm != "does not ring for its log"
            yield replace(left, muted=False, listens_out=False, spinning=False, bell=w.bell or ring)
        else:
            yield left
    elif at == "sleep" and k in w.done:
        yield replace(w, caller="put", task=k + 1)


def _left(w: World) -> str:
    return w.gate if w.revoked else ""


_INSIDE = {"may send?", "log it", "send", "log late", "it is out"}
_INSIDE |= {"may spin?", "may receive?", "receive", "log that", "settle", "give back"}


def interrupted(w: World, harm: str) -> Iterator[World]:
    """An exception where the caller stands, and what its ``finally`` does."""
    if not w.exceptions or w.caller in ("put", "sleep") or w.handler:
        return
    stale = w.revoked
    after = replace(
        w,
        exceptions=w.exceptions - 1,
        given_up=w.given_up | {w.task},
        caller="put",
        task=w.task + 1,
        hand=(),
        revoked=False,
        gate=_left(w) if w.caller in _INSIDE else w.gate,
    )
    if stale:
        yield after
        return
    if w.caller == "send":
        yield replace(after, garbled=True, bell=True if w.torn else w.bell)
    if w.caller == "ring" and harm != "an interrupted caller does not ring for its task":
        after = replace(after, bell=True)
    if w.caller in _INSIDE and w.torn:
        after = replace(after, bell=True)
    if w.spinning:
        after = replace(after, spinning=False, bell=after.bell or harm != "goes without ringing")
    yield after


def handler(w: World) -> Iterator[World]:
    """A signal handler, which submits a task and waits for it."""
    if not w.handler:
        if w.handlers and w.caller != "put":
            yield replace(w, handlers=0, handler="queue")
    elif w.handler == "queue":
        yield replace(w, queue=(*w.queue, HANDLER), bell=True, handler="wait")
    elif HANDLER in w.done:
        yield replace(w, handler="")


def io_thread(  # noqa: C901, PLR0912, PLR0915 - as above
    w: World, harm: str
) -> Iterator[World]:
    """What the I/O thread does next."""
    at = w.io
    if at == "take back":
        if not w.gate or harm == "the link is taken back without the gate":
            yield replace(w, lent=False, lone=NOT_ONE, io="enter")
        elif w.handler and w.caller in _INSIDE and harm != "the gate is never revoked":
            new = replace(w, lent=False, lone=NOT_ONE, gate="", revoked=True, torn=True)
            yield replace(new, spinning=False, muted=True, io="enter")
    elif at == "enter":
        now = w
        for kind, tasks in w.log:
            if kind == "sent":
                now = replace(now, known=now.known | frozenset(tasks))
            else:
                now = _entered(now, tasks)
        now = replace(now, log=(), io="take queue")
        if w.torn:
            now = _relinked(now)
        yield now
    elif at == "take queue":
        now = replace(w, known=w.known | frozenset(w.queue), queue=(), io="receive")
        small = tuple(task for task in w.queue if task != w.large)
        if w.large in w.queue:
            now = replace(now, congested=True)
        yield _sent(now, small)
    elif at == "receive":
        if w.muted:
            yield replace(w, io="arm")
        else:
            yield replace(_entered(w, w.down), down=(), io="arm")
    elif at == "arm":
        overdue = w.spinning and bool(w.handler) and harm != "an overdue spinner stays"
        mute = w.muted and (not w.spinning or overdue) and harm != "a mute poller stays mute"
        wants_out = w.congested and not w.listens_out
        if wants_out and harm == "a congested link is left to the spinning caller" and w.spinning:
            wants_out = False
        if mute or wants_out:
            now = replace(w, spinning=False, muted=False, listens_out=w.congested)
            yield replace(now, io="say asleep" if w.muted is now.muted else "receive")
        else:
            timer = w.spinning and harm != "an overdue spinner stays"
            yield replace(w, io="say asleep", timer=timer)
    elif at == "say asleep":
        again = "sleep" if harm == "does not check again before it sleeps" else "check again"
        yield replace(w, sleeps=w.sleeps + 1, asleep=w.sleeps + 1, io=again)
    elif at == "check again":
        yield replace(w, asleep=0, io="take queue") if w.queue else replace(w, io="sleep")
    elif at == "sleep" and not w.lent:
        yield replace(w, lent=True)
    elif at == "sleep":
        readable = bool(w.down) and not w.muted
        writable = w.congested and w.listens_out
        overdue = w.timer and w.spinning and bool(w.handler)
        if w.bell or readable or writable or overdue:
            now = replace(w, asleep=0, bell=False, timer=False, io="take back")
            if writable:
                now = _sent(replace(now, congested=False, listens_out=False), (w.large,))
            yield now


def _relinked(w: World) -> World:
    """Another link: what is missing is sent again, and what was not heard is said again."""
    fresh = replace(
        w,
        torn=False,
        garbled=False,
        spinning=False,
        muted=False,
        congested=False,
        listens_out=False,
        down=tuple(sorted(w.at_broker - w.unanswered - w.ended)),
    )
    return _sent(fresh, tuple(sorted(w.known - w.ended)))


def broker(w: World) -> Iterator[World]:
    """An answer comes."""
    for task in sorted(w.unanswered):
        yield replace(w, unanswered=w.unanswered - {task}, down=(*w.down, task))


def steps(w: World, tasks: int, harm: str) -> Iterator[World]:
    if not w.handler:
        yield from caller(w, tasks, harm)
        yield from interrupted(w, harm)
    yield from handler(w)
    yield from io_thread(w, harm)
    yield from broker(w)


def _normal(w: World) -> World:
    """The same with small numbers of sleeps: only their order matters."""
    ranks = {number: rank for rank, number in enumerate(sorted({0, w.sleeps, w.told, w.read}))}
    asleep = ranks[w.sleeps] if w.asleep else 0
    return replace(w, sleeps=ranks[w.sleeps], asleep=asleep, told=ranks[w.told], read=ranks[w.read])


def explore(
    tasks: int, exceptions: int, handlers: int, large: int = NOT_ONE, harm: str = ""
) -> int:
    """Every order of steps; how many states there are.

    Raises:
        Violation: something does not hold.
    """
    first = World(large, exceptions=exceptions, handlers=handlers)
    seen, stack = {first}, [first]
    while stack:
        w = stack.pop()
        further = False
        for after in steps(w, tasks, harm):
            further = True
            new = _normal(after)
            if new not in seen:
                seen.add(new)
                stack.append(new)
        if not further:
            if w.caller != "put" or w.task < tasks or w.handler:
                raise Violation(f"waits for ever: {w}")
            if w.queue or w.known - w.ended or w.log:
                raise Violation(f"not all has ended: {w}")
    return len(seen)


SIZES = [(2, 0, 0, 1), (2, 1, 0, NOT_ONE), (1, 0, 1, NOT_ONE), (1, 2, 1, NOT_ONE), (2, 1, 0, 1)]


@pytest.mark.parametrize("size", [*SIZES, (3, 0, 0, 1), (2, 2, 0, NOT_ONE), (2, 0, 1, NOT_ONE)])
def test_the_design_holds_in_every_order(size: tuple[int, int, int, int]) -> None:
    assert explore(*size) > 100


def holds_without(harm: str) -> bool:
    try:
        for size in SIZES:
            explore(*size, harm)
    except Violation:
        return False
    return True


@pytest.mark.parametrize("harm", sorted(HARMS))
def test_each_handling_is_missed_when_it_is_left_out(harm: str) -> None:
    assert not holds_without(harm)
