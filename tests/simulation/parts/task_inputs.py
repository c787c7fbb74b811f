"""Tasks that have results of other tasks for inputs: which, and whether a child gets the right ones."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from manyhands._session import events as t
from manyhands._session.inputs.input_refs import DependentPayload
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import given_results
from manyhands_shared.protocol.held_result import Ticket

if TYPE_CHECKING:
    from manyhands._session import Session
    from simulation.world import World

Task = tuple[str, int]
#: How often a child cannot borrow a held result, for no reason.
_GONE = 0.1
#: How often a job turns out to keep its results on their nodes.
_KEEPS = 0.1
#: Inputs of one task.
_INPUTS = (1, 1, 1, 2, 3)


class InputChooser:
    """What the tasks of one client have for inputs. Draws from a stream of its own."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._random = Random(f"{world.seed}/{name}/inputs")
        self._share = self._random.choice((0.0, 0.0, 0.3, 0.8))
        self._keeping = Random(f"{world.seed}/{name}/keeps")
        self._tasks: list[Task] = []
        #: How the client's tasks have ended.
        self._ended: dict[Task, tuple[int, Payload]] = {}

    def ended(self, job: str, index: int, status: int, body: Payload) -> None:
        """The client was told how a task ended."""
        self._ended[job, index] = status, body

    def bind(self, session: Session, order: t.Append) -> tuple[t.Append, list[t.Event]]:
        """Have tasks that are being appended need others; return what the user does about these, too."""
        if not self._share or self._world.plan.jobs[order.job].durable:
            return order, []
        job = session._jobs._jobs[order.job]
        job.keeps = job.keeps or self._keeping.random() < _KEEPS
        bodies: list[Payload] = []
        later: list[t.Event] = []
        for place, body in enumerate(order.bodies):
            bodies.append(body)
            if self._tasks and self._random.random() < self._share:
                count = min(self._random.choice(_INPUTS), len(self._tasks))
                chosen = self._random.sample(self._tasks, count)
                known = [one for one in chosen if one in self._ended or session._jobs.has(*one)]
                usable = [one for one in known if one not in self._world.checker.dropped]
                if usable:
                    bodies[-1] = self._payload(usable)
                    self._world.checker.inputs[order.job, job.next + place] = tuple(usable)
                later += self._later(known)
            if job.refusal is None:
                self._tasks.append((order.job, job.next + place))
        return t.Append(order.job, bodies), later

    def _payload(self, inputs: list[Task]) -> DependentPayload:
        payload = DependentPayload(b"args")
        payload.segments, payload.inputs, payload.nbytes = [], (b"", ()), 0
        payload.results = tuple(inputs)
        payload.known = {task: self._ended[task] for task in inputs if task in self._ended}
        return payload

    def _later(self, inputs: list[Task]) -> list[t.Event]:
        found: list[t.Event] = []
        for task in inputs:
            if task in self._ended:
                continue
            draw = self._random.random()
            if draw < 0.3:
                found.append(t.AskResult(*task))
            elif draw < 0.6:
                self._world.checker.dropped.add(task)
                found.append(t.DropResult(*task))
        return found


def gone(world: World, rng: Random, task: Task, body: Payload) -> tuple[bytes, bytes]:
    """Check what a child is given; return key and owner of a held input that it cannot have."""
    wanted = world.checker.inputs.get(task, ())
    has = isinstance(body, tuple) and given_results.has_results(body)
    if not has:
        assert not wanted, f"{task} runs without its inputs"
        return b"", b""
    assert isinstance(body, tuple)
    owner, results, arguments = given_results.split(body)
    assert arguments in (b"args", b""), f"{task} runs with other arguments: {arguments!r}"
    assert len(results) == len(wanted), f"{task} has {len(results)} of {len(wanted)} inputs"
    for (job, index), (is_held, payload) in zip(wanted, results, strict=True):
        value = payload
        if is_held:
            found = [node.pool.fetch(payload) for node in world.nodes if node.pool]
            held = next((value for value in found if value is not None), None)
            if held is None or rng.random() < _GONE:
                return Ticket.decode(payload).key, owner
            value = held
        value = b"".join(value) if isinstance(value, tuple) else value
        assert value == f"{job}/{index}".encode(), f"{task} is given {value!r} for {job}/{index}"
    return b"", b""
