"""Looking at what children do, when the broker asks: once, or again and again for a profile.

Nothing here waits. A look at all threads of a child is over when the child has written its stacks and
the handler of its signal has returned. A profile looks at the main thread alone, in which tasks run.
That thread stands still while it writes its own stack, so nothing changes under the reader. Each turn
of a profile takes what the turn before has asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, zip_longest

from manyhands_shared.protocol import messages as m
from manyhands_worker.child import runner
from manyhands_worker.child.results import early_sender
from manyhands_worker.core.events import Inspected
from manyhands_worker.core.model import Key
from manyhands_worker.ipc.stack_pipe import ALL_THREADS, MAIN_THREAD
from manyhands_worker.pool.child_handle import ChildHandle

#: Between two questions whether a child has answered, and how long it has for that.
_POLL_SECONDS = 0.01
ANSWER_SECONDS = 5.0
#: Between two looks of a profile; children that are looked at in one turn, so that no turn is long.
SAMPLE_SECONDS = 0.02
_TURN_CHILDREN = 16
#: The longest profile, and what the node may be asked at a time.
MOST_SECONDS = 60.0
MOST_ORDERS = 16
#: Characters of all stacks of an answer, and of one.
MOST_CHARS = 1 << 20
_STACK_CHARS = 60_000
#: Begins the line below which there is nothing of the task's own.
_OURS = f'  File "{runner.__file__}", '
#: Begins a line of the one thread that is none of the task's.
_SENDER = f'  File "{early_sender.__file__}", '
#: The last line of a stack that is too deep.
_DEEPER = "  ...\n"
_HEADS = ("Thread ", "Current thread ", "Stack ")
#: The same as a pattern: begins a stack of a look at all threads, or of one at the main thread alone.
_HEAD = re.compile(r"^(?:(?:Thread|Current thread) (?P<thread>0x[0-9a-f]+)|Stack )", re.MULTILINE)
_SILENT = (
    "its process does not answer: it blocks the signal that asks, or a task has closed the pipe "
    "for the answer\n"
)
_NO_PYTHON = "  [in no Python function of the task]\n"
_CUT = "  [more is left out]\n"

#: A job in an attempt, and a task's index in it.
Task = tuple[Key, int]


@dataclass(slots=True)
class _Look:
    """An order to look once."""

    request: int
    until: float
    #: The children that have not answered: their task, and what they have written so far.
    waiting: dict[ChildHandle, tuple[Task, bytes]]
    stacks: list[m.Stack] = field(default_factory=list)
    chars: int = 0
    left_out: int = 0

    def add(self, child: ChildHandle, task: Task, text: str) -> None:
        """A child has answered."""
        if self.chars + len(text) > MOST_CHARS or len(self.stacks) >= m.MAX_STACKS:
            self.left_out += 1
            return
        self.chars += len(text)
        (job, attempt), index = task
        self.stacks.append(m.Stack(job, attempt, index, child.slot, child.pid, 1, text))


@dataclass(slots=True)
class _Profile:
    """An order to look again and again at a job's tasks."""

    order: m.Inspect
    until: float
    counts: dict[str, int] = field(default_factory=dict)
    chars: int = 0
    left_out: int = 0

    def add(self, text: str) -> None:
        """A look has found this stack."""
        if text in self.counts:
            self.counts[text] += 1
        elif self.chars + len(text) > MOST_CHARS or len(self.counts) >= m.MAX_STACKS:
            self.left_out += 1
        else:
            self.chars += len(text)
            self.counts[text] = 1

    def answer(self) -> m.Inspected:
        """What was found."""
        stacks = [
            m.Stack(self.order.job, 0, 0, 0, 0, count, text) for text, count in self.counts.items()
        ]
        return m.Inspected(self.order.request, "", stacks, self.left_out)


class StackSampler:
    """Carries out the broker's orders to look.

    Args:
        children: those of the pool.
    """

    def __init__(self, children: Callable[[], Iterable[ChildHandle | None]]) -> None:
        self._children = children
        self._looks: list[_Look] = []
        self._profiles: list[_Profile] = []
        #: The task of each child that was asked in a turn of profiles.
        self._asked: dict[ChildHandle, Task] = {}
        self._place = 0
        self._refusals: list[m.Inspected] = []
        #: When `turn` has something to do.
        self.due = math.inf

    def begin(self, order: m.Inspect, now: float) -> None:
        """Begin to carry out an order."""
        if len(self._looks) + len(self._profiles) >= MOST_ORDERS:
            error = f"the node looks for {MOST_ORDERS} others already: ask again"
            self._refusals.append(m.Inspected(order.request, error, [], 0))
        elif order.seconds:
            until = now + min(order.seconds, MOST_SECONDS)
            self._profiles.append(_Profile(order, until))
        else:
            waiting: dict[ChildHandle, tuple[Task, bytes]] = {}
            for child in self._children():
                task = _task_of(child, order)
                if child is None or task is None:
                    continue
                waiting[child] = task, b""
                # What another look has asked for is the answer to this one, too.
                if not any(child in look.waiting for look in self._looks):
                    child.stacks.ask(child.pid, child.sentinel, ALL_THREADS)
                    self._asked.pop(child, None)
            self._looks.append(_Look(order.request, now + ANSWER_SECONDS, waiting))
        self.due = now

    def turn(self, now: float) -> Iterator[Inspected]:
        """Do what is due; yield the answers that are whole."""
        for refusal in self._refusals:
            yield Inspected(refusal)
        self._refusals.clear()
        for look in self._looks[:]:
            for child in list(look.waiting):
                self._hear(look, child, now)
            if not look.waiting:
                self._looks.remove(look)
                yield Inspected(m.Inspected(look.request, "", look.stacks, look.left_out))
        if self._profiles:
            self._sample()
        for profile in self._profiles[:]:
            if now >= profile.until:
                self._profiles.remove(profile)
                yield Inspected(profile.answer())
        if not self._profiles:
            self._asked.clear()
        self.due = math.inf
        if self._looks:
            self.due = now + _POLL_SECONDS
        elif self._profiles:
            self.due = now + SAMPLE_SECONDS

    def _hear(self, look: _Look, child: ChildHandle, now: float) -> None:
        """See whether a child has answered."""
        task, data = look.waiting[child]
        came = child.stacks.read()
        for other in self._looks if came else ():
            if child in other.waiting:
                known, before = other.waiting[child]
                other.waiting[child] = known, before + came
        data += came
        if child.closed or child.task != task:
            # It has ended meanwhile, and the stack may be another task's.
            del look.waiting[child]
        elif now >= look.until or (data and not came and not child.stacks.is_writing(child.pid)):
            del look.waiting[child]
            look.add(child, task, _threads(data.decode("utf-8", "replace")) or _SILENT)

    def _sample(self) -> None:
        """Take what children were asked for, and ask again: not all of them in one turn."""
        busy = {child for look in self._looks for child in look.waiting}
        children = [child for child in self._children() if child is not None and child not in busy]
        if not children:
            return
        self._place %= len(children)
        turned = [*children[self._place :], *children[: self._place]]
        self._place += _TURN_CHILDREN
        for child in islice(turned, _TURN_CHILDREN):
            asked = self._asked.pop(child, None)
            if asked is not None:
                text = _sample(child.stacks.read().decode("utf-8", "replace"))
                for profile in self._profiles:
                    if text and _is_meant(asked, profile.order):
                        profile.add(text)
            task = child.task
            if task is not None and any(_is_meant(task, one.order) for one in self._profiles):
                child.stacks.ask(child.pid, child.sentinel, MAIN_THREAD)
                self._asked[child] = task


def _task_of(child: ChildHandle | None, order: m.Inspect) -> Task | None:
    """The task that a child runs, if the order means it."""
    task = None if child is None or child.closed else child.task
    return task if task is not None and _is_meant(task, order) else None


def _is_meant(task: Task, order: m.Inspect) -> bool:
    (job, _), index = task
    return order.job in ("", job) and (not order.indices or index in order.indices)


def _threads(text: str) -> str:
    """The stacks of all threads, each without what is not of the task.

    What was asked for before may still have come. So of two stacks of a thread the last one counts.
    """
    found: dict[str, str] = {}
    starts = list(_HEAD.finditer(text))
    for start, end in zip_longest(starts, starts[1:]):
        head, _, frames = text[start.start() : end.start() if end else None].partition("\n")
        thread = start["thread"]
        if thread is None:
            continue
        found.pop(thread, None)
        if _SENDER not in frames:
            found[thread] = f"{head}\n{_own(frames) or _NO_PYTHON}"
    whole = "\n".join(found.values())
    return whole if len(whole) <= _STACK_CHARS else whole[:_STACK_CHARS] + "\n" + _CUT


def _sample(text: str) -> str:
    """The frames of the main thread that are the task's own; empty if not all of them have come."""
    # Where all threads come, the main one is the last.
    head, _, frames = text.rpartition("\n\n")[2].partition("\n")
    whole = _OURS in frames or frames.endswith(_DEEPER)
    return _own(frames) if whole and head.startswith(_HEADS) else ""


def _own(text: str) -> str:
    """The frames of one thread that are the task's own, a line each."""
    lines = []
    for line in text.splitlines():
        if line.startswith(_OURS):
            break
        if line.startswith("  "):
            lines.append(line)
    found = "".join(f"{line}\n" for line in lines)
    return found if len(found) <= _STACK_CHARS else found[:_STACK_CHARS] + "\n" + _CUT
