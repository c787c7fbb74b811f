"""Tasks that have the results of other tasks for inputs: they wait, run with these, or end with them.

Only attached tasks do, and only with results of their own session. Such a task is QUEUED like any other,
and not in line as long as one of its inputs is `MISSING` (see `model.task_input`). The broker keeps a
result that came here until the last task that needs it has ended, at the cost of the client's budget.
Of a result that its node holds the broker keeps the ticket. The client says `Taken` of it only when no
task needs it any more. So if the node is lost, the held task runs again like all that the node had.

The client has all that has ended, and is asked for what is not here any more (`WantResults`). Such are
results that were on their way to it when the dependent task was submitted, and those of an earlier
broker. Nothing here recurses, for users make chains as long as they like. A drain tells a bounded number
of tasks that an input has come, for a result may have millions of tasks behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from manyhands_broker.core.model.chunk import CHUNK, Piece
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.task_input import Inputs, Source, Standing
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.peers.relays.value_relay import ValueRelay
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.protocol import given_results
from manyhands_shared.protocol.failure import SUBMIT_REJECTED, Failure
from manyhands_shared.protocol.held_result import Ticket
from manyhands_shared.protocol.messages import (
    Dependency,
    Relay,
    ResultGroup,
    Span,
    Status,
    WantResults,
)
from manyhands_shared.protocol.public_name import public_name

#: Inputs of one task.
MAX_INPUTS = 10_000
#: Results that one message asks for.
_WANTED_AT_ONCE = 16_384

#: What a result comes to that its client has neither fetched nor left with its node.
_LET_GO = Failure("manyhands.TaskLost", "the client has let go of the result unread").encode()

#: Of the tasks of a job, what each has for inputs: jobs and indices.
Needs = dict[int, list[tuple[str, int]]]


def by_job(dependencies: Iterable[Dependency]) -> dict[str, Needs]:
    """Sort what a client says of the tasks that it is about to submit."""
    needs: dict[str, Needs] = {}
    for one in dependencies:
        needs.setdefault(one.job, {}).setdefault(one.index, []).append((one.of_job, one.of_index))
    return needs


class TaskInputs:
    """What becomes of results that tasks wait for, and of these tasks."""

    def __init__(self, transitions: Transitions, value_relay: ValueRelay) -> None:
        self._transitions = transitions
        self._state = transitions.state
        self._value_relay = value_relay
        #: Results with news for the tasks that wait for them.
        self._news: deque[Source] = deque()

    @property
    def pending(self) -> bool:
        """Whether `tell` has something to do."""
        return bool(self._news or self._state.ended_inputs)

    # What clients say

    def refuse(self, job: Job, needs: Needs) -> None:
        """Refuse what cannot wait.

        Raises:
            ProtocolError: naming why.
        """
        if job.options.durable:
            raise ProtocolError("only attached tasks can have results of other tasks for inputs")
        if any(len(inputs) > MAX_INPUTS for inputs in needs.values()):
            raise ProtocolError(f"a task has more than {MAX_INPUTS} results for inputs")

    def follow(self, job: Job, indices: Iterable[int], needs: Needs) -> None:
        """Have new tasks wait for their inputs."""
        lacking: list[Source] = []
        for index in indices:
            sources = []
            for of_job, of_index in needs[index]:
                source = self._source(job.session, of_job, of_index)
                if source.standing is Standing.MISSING and not source.users:
                    self._begin(source, lacking)
                sources.append(source)
            [piece] = job.pieces([index])
            inputs = Inputs(tuple(sources))
            job.need(piece, inputs)
            self._wait(job, index, inputs)
        self._ask(job.session, lacking)

    def known(self, session: Session, groups: list[ResultGroup]) -> None:
        """Take results that the client has, as far as they are still lacking."""
        for group in groups:
            shelf = session.sources.get(group.job, {})
            for index, status, body in zip(
                group.indices, group.statuses, group.bodies, strict=True
            ):
                source = shelf.get(index)
                if source is not None and source.standing is Standing.MISSING:
                    if status == Status.OK and body == b"":
                        # To ask once more would bring the same answer.
                        status, body = Status.LOST, _LET_GO  # noqa: PLW2901 - in its place
                    self._ended(source, Status(status), body)

    def resumed(self, session: Session) -> None:
        """Ask a client once more, over a new link, for what is lacking."""
        if session.sources:
            shelves = session.sources.values()
            sources = [source for shelf in shelves for source in shelf.values()]
            missing = [s for s in sources if s.standing is Standing.MISSING]
            self._ask(session, [s for s in missing if not self._is_coming(s)])

    # What nodes say

    def held_result(self, job: Job, index: int, ticket: Payload, node: Node) -> None:
        """Take note that a node holds the result of a task."""
        source = job.sources.get(index) if job.sources else None
        if source is not None:
            self._hold(source, ticket, node)

    def gone(self, piece: Piece, node: Node, body: Payload) -> None:
        """Have a task wait again that could not get a held result, which then comes through here."""
        inputs = piece.chunk.results.get(piece.lo)
        self._transitions.requeue(piece, node, started=False)
        for source in inputs.sources if inputs is not None else ():
            if source.standing is Standing.HELD and source.key == body:
                self._state.counters["inputs_relayed"] += 1
                self.relay(source)

    def relay(self, source: Source) -> None:
        """Have a held result come through here: a node cannot fetch it from the one that has it."""
        job, node = self._state.jobs.get(source.job_id), source.node
        source.lose()
        for piece in job.pieces([source.index]) if job is not None else ():
            if node is not None and piece.chunk.holders[piece.lo] is node:
                span = Span(source.job_id, piece.chunk.attempts[piece.lo], [source.index])
                self._state.send(node.peer, Relay([span]))

    # What tasks wait for

    def tell(self, most: int) -> int:
        """Tell at most `most` tasks that an input has come or failed; return how many were told."""
        state, told = self._state, 0
        while state.ended_inputs:
            self._ended(*state.ended_inputs.popleft())
        while self._news and told < most:
            source = self._news[0]
            if not source.followers or source.standing is Standing.MISSING:
                self._news.popleft()
                continue
            (job, index), _ = source.followers.popitem(last=False)
            told += 1
            try:
                self._go_on(job, index)
            except Exception as error:  # noqa: BLE001 - reported; it ends this one
                state.breakdowns.of(error, job)
        return told

    def there(self, piece: Piece) -> Piece | None:
        """Return the first of these queued tasks that have all their inputs.

        The next one waits for its inputs again, and the rest is in line again; `None` if that is all.
        """
        chunk, lo, hi = piece
        for offset in range(lo, hi):
            inputs = chunk.results.get(offset)
            if inputs is None or inputs.are_there:
                continue
            if offset + 1 < hi:
                chunk.job.put_back(Piece(chunk, offset + 1, hi))
            inputs.position = 0
            self._wait(chunk.job, chunk.base + offset, inputs)
            return Piece(chunk, lo, offset) if lo < offset else None
        return piece

    def given(self, piece: Piece, bodies: list[Payload]) -> list[Payload] | None:
        """Return the arguments of tasks with what they have for inputs; `None` if that is lost."""
        chunk, lo, hi = piece
        owner = public_name(chunk.job.session.token)
        found = list(bodies)
        for offset in range(lo, hi):
            inputs = chunk.results.get(offset)
            if inputs is None:
                continue
            if not inputs.are_there:
                return None
            results = [(s.standing is Standing.HELD, s.body) for s in inputs.sources]
            found[offset - lo] = given_results.join(owner, results, bodies[offset - lo])
        return found

    def _source(self, session: Session, job_id: str, index: int) -> Source:
        shelf = session.sources.get(job_id)
        if shelf is None:
            shelf = session.sources[job_id] = {}
            job = session.jobs.get(job_id)
            if job is not None:
                job.sources = shelf
        source = shelf.get(index)
        if source is None:
            source = shelf[index] = Source(session, job_id, index)
        return source

    def _begin(self, source: Source, lacking: list[Source]) -> None:
        """See where a result is that no task has needed before."""
        job = source.session.jobs.get(source.job_id)
        for chunk, offset, _ in job.pieces([source.index]) if job is not None else ():
            node = chunk.holders[offset]
            ticket = None if node is None else node.held_results.get((chunk, offset))
            if node is not None and ticket is not None:
                self._hold(source, ticket, node)
                return
        if not self._is_coming(source):
            lacking.append(source)

    def _is_coming(self, source: Source) -> bool:
        """Return whether the task of a result is here and has not ended."""
        job, index = source.session.jobs.get(source.job_id), source.index
        chunk = None if job is None else job.chunks.get(index - index % CHUNK)
        offset = index % CHUNK
        if chunk is None or offset >= len(chunk.states):
            return False
        return chunk.states[offset] in (TaskState.QUEUED, TaskState.ASSIGNED)

    def _ask(self, session: Session, sources: list[Source]) -> None:
        for at in range(0, len(sources), _WANTED_AT_ONCE):
            spans: dict[str, list[int]] = {}
            for source in sources[at : at + _WANTED_AT_ONCE]:
                spans.setdefault(source.job_id, []).append(source.index)
            wanted = [Span(job_id, 0, indices) for job_id, indices in spans.items()]
            self._state.send(session.peer, WantResults(wanted))

    def _hold(self, source: Source, body: Payload, node: Node) -> None:
        try:
            ticket = Ticket.decode(body)
        except ProtocolError:
            source.node = node
            self.relay(source)
            return
        size = sum(ticket.lengths)
        item = self._value_relay.held_result(source.session, ticket.key, size, node)
        source.hold(body, ticket.key, node, item)
        self._news.append(source)

    def _ended(self, source: Source, status: Status, body: Payload) -> None:
        """Take the end of a task that others wait for."""
        session = source.session
        if not source.users:
            return
        if status == Status.OK and body == b"":
            # Its client has fetched it, and lets the node drop it too soon.
            source.lose()
            self._ask(session, [source])
            return
        if status == Status.OK:
            _, refusal = session.ledger.refuse_tasks(session, 0, nbytes(body), durable=False)
            if not refusal:
                source.keep(body)
                self._news.append(source)
                return
            status, body = Status.RAISED, Failure(SUBMIT_REJECTED, refusal).encode()
        if status != Status.CANCELLED:
            failure = Failure.decode(body)
            if not failure.note:
                note = (
                    f"this is how task {source.index} of job {source.job_id} ended, "
                    "whose result the task was to be given"
                )
                body = replace(failure, note=note).encode()
        source.fail(status, body)
        self._news.append(source)

    def _wait(self, job: Job, index: int, inputs: Inputs) -> None:
        """Have a task wait for the first input that is not there, or be told of the first that is."""
        missing = (source for source in inputs.sources if not source.is_there)
        source = next(missing, inputs.sources[0])
        inputs.wait(job, index, source)
        if source.standing is not Standing.MISSING:
            self._news.append(source)

    def _go_on(self, job: Job, index: int) -> None:
        """Let a task wait for its next input, run, or end."""
        [piece] = job.pieces([index])
        inputs = piece.chunk.results[piece.lo]
        inputs.stopped(job)
        while inputs.position < len(inputs.sources):
            source = inputs.sources[inputs.position]
            if source.standing is Standing.FAILED:
                self._state.counters["tasks_failed_by_input"] += 1
                self._transitions.end_alike(piece, None, source.status, source.body)
                return
            if source.standing is Standing.MISSING:
                inputs.wait(job, index, source)
                return
            inputs.position += 1
        items = (source.item for source in inputs.sources)
        job.place_by(piece, tuple(dict.fromkeys(item for item in items if item is not None)))
        job.line_up(index, index + 1)
        self._state.ready.add(job)
