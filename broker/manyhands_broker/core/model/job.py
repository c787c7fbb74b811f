"""Jobs and their tasks, in columns.

A job's tasks live in chunks of 1,024, each a handful of parallel columns. A task has one byte of state,
four bytes of attempt number, a reference to its node and one to its payload. Almost every move is
made for a whole range at once, at the speed of slices. A chunk whose tasks have all ended is dropped,
so a job that stays open for ever costs only what is unfinished in it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from manyhands_broker.core.model.attempts import Adoption, Speculation
from manyhands_broker.core.model.chunk import CHUNK, Chunk, Piece
from manyhands_broker.core.model.requirements import Resources, kind_of
from manyhands_broker.core.model.task_input import Inputs, Source
from manyhands_broker.core.model.task_state import MOVES, TaskState
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.messages import ResultGroup, Status

if TYPE_CHECKING:
    from manyhands_broker.core.model.node import Node
    from manyhands_broker.core.model.session import Session
    from manyhands_broker.core.model.stored_value import StoredValue

#: Lines in the story of what went wrong in a job.
STORY_LINES = 100
#: Stands for a payload that is in the journal only, and is read back when its task is given out.
SPILLED: Payload = ()
#: What a cancelled task's failure payload says.
CANCELLED = Failure("concurrent.futures.CancelledError", "the task was cancelled").encode()
_LEGAL = frozenset((old, new) for old, moves in MOVES.items() for new in moves)
_QUEUED = bytes([TaskState.QUEUED])


class Job:
    """One function, options, and tasks numbered from 0. Open until its client closes it."""

    __slots__ = (
        "awaits",
        "behind",
        "blames",
        "cancelling",
        "chunks",
        "closed",
        "cost",
        "counted",
        "counts",
        "delayed",
        "digests",
        "ending",
        "estimate",
        "function",
        "given",
        "guess",
        "id",
        "kind",
        "known_by",
        "listed",
        "on_hold",
        "options",
        "options_map",
        "paused",
        "priority",
        "ready",
        "referring",
        "resources",
        "seconds",
        "session",
        "sources",
        "speculation",
        "story",
        "submitted",
        "subscribers",
        "suspects",
        "terminating",
        "total",
        "touched",
        "transfer_seconds",
        "tries",
        "uncertain",
        "waiting",
    )

    def __init__(
        self, job_id: str, session: Session, function: bytes, options: JobOptions, now: float
    ) -> None:
        self.id = job_id
        self.session = session
        self.function = function
        #: Of the function, and of the client's modules that it brings.
        self.digests = options.digests(function)
        self.options = options
        #: The options as they travel, once a node was told of them; a thousand may have to be.
        self.options_map: dict[str, object] | None = None
        self.submitted = now
        #: Its priority among all jobs, which its key caps; and the bytes of what it asks for.
        self.priority = min(options.priority, session.ledger.top)
        self.cost = 0
        self.total = 0
        self.closed = False
        #: Tasks in each state, by `TaskState`.
        self.counts = [0] * len(TaskState)
        #: Whether its history knows already that these have changed.
        self.touched = False
        self.chunks: dict[int, Chunk] = {}
        #: Index ranges [lo, hi) that may hold queued tasks, in the order of running.
        self.ready: deque[tuple[int, int]] = deque()
        #: Seconds a task takes, a moving average; `None` before the first has ended.
        self.estimate: float | None = None
        #: The same of earlier jobs of the function: tasks of other arguments may take other times.
        self.guess: float | None = None
        self.seconds = 0.0
        #: Unfinished tasks that refer to stored values; and the seconds that these would take to other
        #: nodes, for tasks that wait where they are.
        self.referring = 0
        self.transfer_seconds = 0.0
        #: One line for each time a task ended the child or node that ran it.
        self.blames: dict[int, list[str]] = {}
        #: What went wrong in it, for people: it outlives the tasks that it is about.
        self.story: list[str] = []
        #: Tasks that were on a node when it died among too many to tell which was to blame.
        self.suspects: set[int] = set()
        #: Assigned tasks whose nodes have been told to stop them.
        self.cancelling: set[int] = set()
        #: Links whose node has this job's options.
        self.known_by: set[Node] = set()
        #: Whether the broker lacks the function.
        self.waiting = False
        #: Whether its tasks wait because a user wants it; because nodes may come back in a moment that
        #: run them already.
        self.paused = False
        self.on_hold = False
        #: Jobs that have to be done first, and the results of those that are.
        self.awaits: set[str] = set()
        self.given: list[ResultGroup] = []
        #: Of an attached job: the last attempt of a task that `tries` and `blames` have counted. Nodes
        #: may bring it again to the next broker, which must not count it twice.
        self.counted: dict[int, int] = {}
        #: How often each task has raised and was given another run.
        self.tries: dict[int, int] = {}
        #: Queued tasks that wait for the end of their back-off: index → when.
        self.delayed: dict[int, float] = {}
        #: Status and failure payload with which cancelled tasks end.
        self.ending: tuple[Status, bytes] = (Status.CANCELLED, CANCELLED)
        #: Whether tasks that are added end in this way at once.
        self.terminating = False
        #: Queued tasks that may not run twice, and that a node may have run before the broker's start.
        #: Only the node that has them may still end them.
        self.uncertain: set[int] = set()
        #: Sessions that see the results of this durable job.
        self.subscribers: set[Session] = set()
        #: What each task takes of its node; with the labels that it needs, the job's kind.
        self.resources: Resources = tuple(sorted(options.resources.items()))
        self.kind = kind_of(frozenset(options.needs), self.resources)
        #: What it has of second attempts of slow tasks; `None` if they are not to.
        self.speculation = Speculation() if options.speculative else None
        #: Those of its tasks whose results others have for inputs; see `model.task_input`.
        self.sources: dict[int, Source] | None = None
        #: Tasks that wait for an input.
        self.behind = 0
        #: Whether the ready queue lists the job.
        self.listed = False

    @property
    def queued(self) -> int:
        """Tasks that no node has."""
        return self.counts[TaskState.QUEUED]

    @property
    def assigned(self) -> int:
        """Tasks that a node has."""
        return self.counts[TaskState.ASSIGNED]

    @property
    def runnable(self) -> bool:
        """Whether tasks of it may be given out now."""
        if not self.ready or self.waiting or self.paused or self.on_hold or self.awaits:
            return False
        return not (self.referring and self.session.unheard)

    @property
    def finished(self) -> bool:
        """Whether nothing can happen in this job any more."""
        return self.closed and not self.queued and not self.assigned

    def expected(self, unmeasured: float) -> float:
        """Return a task's expected seconds; `unmeasured` if none of the function has ended yet."""
        if self.estimate is not None:
            return self.estimate
        return unmeasured if self.guess is None else self.guess

    def append(self, bodies: list[Payload], waiting: Iterable[int] = ()) -> None:
        """Queue new tasks behind the ones there are; those in `waiting`, rising, are not in line."""
        first = self.total
        taken = 0
        while taken < len(bodies):
            base = self.total - self.total % CHUNK
            chunk = self.chunks.get(base)
            if chunk is None:
                chunk = self.chunks[base] = Chunk(self, base)
            part = bodies[taken : taken + CHUNK - len(chunk.states)]
            count = len(part)
            chunk.states += bytes(count)
            chunk.attempts.extend([0] * count)
            chunk.holders.extend([None] * count)
            chunk.payloads.extend(part)
            chunk.left += count
            self.total += count
            taken += count
        self.counts[TaskState.QUEUED] += taken
        for index in waiting:
            self.line_up(first, index)
            first = index + 1
        self.line_up(first, self.total)

    def line_up(self, lo: int, hi: int) -> None:
        """Put queued tasks, `lo` to `hi`, in line behind all others."""
        if lo == hi:
            return
        if self.ready and self.ready[-1][1] == lo:
            self.ready[-1] = (self.ready[-1][0], hi)
        else:
            self.ready.append((lo, hi))

    def begin_behind(self, first: int) -> None:
        """Have new tasks, from `first` on, begin behind the attempts that an earlier broker counted."""
        for index in range(first, self.total):
            if index in self.counted:
                chunk = self.chunks[index - index % CHUNK]
                chunk.attempts[index % CHUNK] = self.counted[index]

    def skip_to(self, index: int) -> None:
        """Leave out the tasks below `index` that have not come: they ended in an earlier life."""
        gap = index - self.total
        base = self.total - self.total % CHUNK
        last = index - index % CHUNK
        if base in self.chunks:
            self._fill(self.chunks[base], min(index - base, CHUNK))
        if last != index and last not in self.chunks:
            self.chunks[last] = Chunk(self, last)
            self._fill(self.chunks[last], index - last)
        self.counts[TaskState.DONE] += gap
        self.total = index

    def take(self, count: int) -> Piece | None:
        """Return the next queued tasks, at most `count`, all of one attempt number; still QUEUED."""
        while self.ready:
            lo, hi = self.ready.popleft()
            chunk = self.chunks.get(lo - lo % CHUNK)
            end = min(hi, lo - lo % CHUNK + CHUNK)
            first = (
                -1
                if chunk is None
                else chunk.states.find(_QUEUED, lo - chunk.base, end - chunk.base)
            )
            if chunk is None or first < 0:
                if end < hi:
                    self.ready.appendleft((end, hi))
                continue
            last = min(first + count, end - chunk.base)
            states = chunk.states[first:last]
            last -= len(states.lstrip(_QUEUED))
            attempt = chunk.attempts[first]
            if chunk.attempts[first:last].count(attempt) != last - first:
                last = next(k for k in range(first, last) if chunk.attempts[k] != attempt)
            if chunk.base + last < hi:
                self.ready.appendleft((chunk.base + last, hi))
            return Piece(chunk, first, last)
        return None

    def put_back(self, piece: Piece) -> None:
        """Put what was taken in line again, before all others."""
        indices = piece.indices
        if self.ready and self.ready[0][0] == indices.stop:
            self.ready[0] = (indices.start, self.ready[0][1])
        else:
            self.ready.appendleft((indices.start, indices.stop))

    def refer(self, first: int, count: int, items: tuple[StoredValue[Node], ...]) -> None:
        """Note the stored values of tasks from `first` on, unless they have ended or have some."""
        for index in range(first, min(first + count, self.total)):
            chunk = self.chunks.get(index - index % CHUNK)
            offset = index % CHUNK
            if chunk is None or chunk.payloads[offset] is None or offset in chunk.inputs:
                continue
            chunk.inputs[offset] = items
            self.referring += 1
            for item in items:
                item.tasks += 1

    def need(self, piece: Piece, inputs: Inputs) -> None:
        """Note what a new task has for inputs; each of these counts the task."""
        piece.chunk.results[piece.lo] = inputs
        for source in inputs.sources:
            source.users += 1

    def place_by(self, piece: Piece, items: tuple[StoredValue[Node], ...]) -> None:
        """Have a task placed by these values, and by no others."""
        self._forget_inputs(piece)
        if items:
            self.refer(piece.indices.start, 1, items)

    def pieces(self, indices: list[int]) -> Iterator[Piece]:
        """Yield the unfinished chunks' parts of `indices`, in maximal runs; leave out unknown ones."""
        position = 0
        while position < len(indices):
            first = indices[position]
            base = first - first % CHUNK
            stop = position + 1
            top = min(len(indices), position + base + CHUNK - first)
            # A sorted vector is one comparison; anything else is walked.
            if indices[position:top] == list(range(first, first + top - position)):
                stop = top
            while stop < top and indices[stop] == indices[stop - 1] + 1:
                stop += 1
            chunk = self.chunks.get(base)
            if chunk is not None:
                lo = first - base
                hi = min(lo + stop - position, len(chunk.states))
                if lo < hi:
                    yield Piece(chunk, lo, hi)
            position = stop

    def every_piece(self, state: TaskState) -> Iterator[Piece]:
        """Yield all tasks in `state`, in maximal runs. Moving what is yielded is allowed."""
        mark = bytes([state])
        for chunk in list(self.chunks.values()):
            lo = chunk.states.find(mark)
            while lo >= 0:
                rest = chunk.states[lo:]
                hi = lo + len(rest) - len(rest.lstrip(mark))
                yield Piece(chunk, lo, hi)
                lo = chunk.states.find(mark, hi)

    def assign(self, piece: Piece, node: Node) -> int:
        """QUEUED → ASSIGNED, to `node`; return the new attempt number."""
        chunk, lo, hi = piece
        attempt = chunk.attempts[lo] + 1
        numbers = array("I", [attempt]) * piece.size
        self._move(piece, TaskState.QUEUED, TaskState.ASSIGNED)
        chunk.attempts[lo:hi] = numbers
        chunk.holders[lo:hi] = [node] * piece.size
        return attempt

    def release(self, piece: Piece) -> None:
        """ASSIGNED → QUEUED, to be run next."""
        self._move(piece, TaskState.ASSIGNED, TaskState.QUEUED)
        piece.chunk.holders[piece.lo : piece.hi] = [None] * piece.size
        self.put_back(piece)

    def postpone(self, piece: Piece, when: float) -> None:
        """ASSIGNED → QUEUED, but not in line before `revive`."""
        self._move(piece, TaskState.ASSIGNED, TaskState.QUEUED)
        piece.chunk.holders[piece.lo : piece.hi] = [None] * piece.size
        self.delayed.update(dict.fromkeys(piece.indices, when))

    def revive(self, now: float) -> None:
        """Put tasks in line whose back-off is over."""
        due = sorted(index for index, when in self.delayed.items() if when <= now)
        for index in due:
            del self.delayed[index]
            self.ready.append((index, index + 1))

    def withdraw(self, indices: Iterable[int]) -> None:
        """Take queued tasks out of the line."""
        ready = self.ready
        gone = sorted(indices)
        if not gone:
            return
        self.ready = deque()
        for lo, hi in ready:
            start = lo
            for place in range(bisect_left(gone, lo), bisect_left(gone, hi)):
                if start < gone[place]:
                    self.ready.append((start, gone[place]))
                start = gone[place] + 1
            if start < hi:
                self.ready.append((start, hi))

    def adopt(self, adoptions: Iterable[Adoption]) -> None:
        """QUEUED → ASSIGNED, each in an attempt that its node runs already."""
        adopted: list[int] = []
        for piece, node, attempt in adoptions:
            chunk, lo, hi = piece
            numbers = array("I", [attempt]) * piece.size
            self._move(piece, TaskState.QUEUED, TaskState.ASSIGNED)
            for index in piece.indices:
                self.delayed.pop(index, None)
                self.uncertain.discard(index)
            chunk.attempts[lo:hi] = numbers
            chunk.holders[lo:hi] = [node] * piece.size
            adopted += piece.indices
        self.withdraw(adopted)

    def pass_over(self, indices: list[int], attempt: int) -> None:
        """Have the next attempts of queued tasks be above one that a node was just told to drop.

        The node may still be ending that one. Under the same number it would take it for the new one.
        """
        for part in self.pieces(indices):
            attempts = part.chunk.attempts
            for offset in range(part.lo, part.hi):
                if part.chunk.states[offset] == TaskState.QUEUED:
                    attempts[offset] = max(attempts[offset], attempt)

    def end(self, piece: Piece, old: TaskState, new: TaskState) -> int:
        """Move to a terminal state; return the bytes of the payloads that are let go."""
        self._move(piece, old, new)
        chunk, lo, hi = piece
        nothing = [None] * piece.size
        freed = total(chunk.payloads[lo:hi])  # type: ignore[arg-type]
        chunk.payloads[lo:hi] = nothing
        chunk.holders[lo:hi] = nothing
        chunk.left -= piece.size
        if chunk.inputs:
            self._forget_inputs(piece)
        if chunk.results:
            for offset in range(lo, hi):
                if (needed := chunk.results.pop(offset, None)) is not None:
                    needed.release(self, chunk.base + offset)
        for marks in (self.suspects, self.cancelling, self.uncertain):
            if marks:
                marks.difference_update(piece.indices)
        for notes in (self.blames, self.tries, self.counted, self.delayed):
            if notes:
                for index in piece.indices:
                    notes.pop(index, None)
        if self.speculation is not None:
            self.speculation.forget(piece.indices)
        if not chunk.left and (self.closed or len(chunk.states) == CHUNK):
            del self.chunks[chunk.base]
        return freed

    def _forget_inputs(self, piece: Piece) -> None:
        for offset in range(piece.lo, piece.hi):
            items = piece.chunk.inputs.pop(offset, None)
            if items is not None:
                self.referring -= 1
                for item in items:
                    item.release()

    def tell(self, *lines: str) -> None:
        """Add lines to its story, the first ones of many."""
        self.story += lines[: max(0, STORY_LINES - len(self.story))]

    def close(self) -> None:
        """Take no more tasks."""
        self.closed = True
        for chunk in [chunk for chunk in self.chunks.values() if not chunk.left]:
            del self.chunks[chunk.base]

    def measured(self, count: int, seconds: float) -> None:
        """Take `count` finished tasks that took `seconds` together into the estimate."""
        self.seconds += seconds
        each = seconds / count
        if self.speculation is not None:
            self.speculation.seconds.append(each)
        if self.estimate is None:
            self.estimate = each
        else:
            # The more tasks, the more the new figure counts: one odd lone task moves it by a tenth.
            weight = min(0.5, 0.1 * count)
            self.estimate += weight * (each - self.estimate)

    def _fill(self, chunk: Chunk, size: int) -> None:
        count = size - len(chunk.states)
        chunk.states += bytes([TaskState.DONE]) * count
        chunk.attempts.extend([0] * count)
        chunk.holders.extend([None] * count)
        chunk.payloads.extend([None] * count)
        if not chunk.left and len(chunk.states) == CHUNK:
            del self.chunks[chunk.base]

    def _move(self, piece: Piece, old: TaskState, new: TaskState) -> None:
        chunk, lo, hi = piece
        count = hi - lo
        if (old, new) not in _LEGAL or chunk.states.count(old, lo, hi) != count:
            raise AssertionError(f"job {self.id}: {old.name} to {new.name} of {lo}..{hi}")
        chunk.states[lo:hi] = bytes([new]) * count
        self.counts[old] -= count
        self.counts[new] += count
        if self.speculation is not None and old == TaskState.ASSIGNED:
            for index in piece.indices:
                self.speculation.since.pop(index, None)
