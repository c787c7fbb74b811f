"""What tasks do now: questions that a node answers, and not the broker.

The broker finds the node, passes the question on, and the answer back to the session or page that
asked. It does not wait: a node that does not answer in time costs the asker a sentence. A node is
believed about what it was asked, and is asked about the jobs of the asker alone, or by an admin.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.queries.job_lookup import live_job
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.messages import Inspect, Inspected

#: Is told the answer: why there is none, or what it is.
Answer = Callable[[str, Any], None]
#: Questions that wait for nodes: of one asker, and of all.
MOST_OF_ASKER = 64
MOST = 1_024
#: What a node has to answer beyond the time for which it looks.
ANSWER_SECONDS = 15.0
#: Characters of all stacks of an answer.
_ANSWER_CHARS = 2 << 20
#: Nodes that are named as those which run a job's tasks.
_MOST_NODES = 1_000
_WORDS = {
    TaskState.QUEUED: "is queued",
    TaskState.DONE: "is done",
    TaskState.FAILED: "has failed",
    TaskState.CANCELLED: "was cancelled",
}


@dataclass(frozen=True, slots=True)
class _Open:
    """A question that a node has not answered."""

    asker: Hashable
    answer: Answer
    node: Node
    job: str


class Inspections:
    """Passes questions about running tasks on to nodes, and their answers back."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._open: dict[int, _Open] = {}
        #: Question → what puts it, for an asker. Each raises `LookupError` if it cannot be put.
        self.by_name: dict[str, Callable[[Hashable, Answer, dict[str, Any]], None]] = {
            "nodes_of": self._nodes_of,
            "stacks": self._of_job,
            "stacks_of_node": self._of_node,
        }

    def answered(self, node: Node, message: Inspected) -> None:
        """Take a node's answer; drop one that it was not asked for."""
        asked = self._open.get(message.request)
        if asked is None or asked.node is not node:
            self._state.counters["unexpected_messages"] += 1
            return
        del self._open[message.request]
        stacks = [one for one in message.stacks if asked.job in ("", one.job)]
        error = message.error and f"node {node.name}: {message.error}"
        if sum(len(one.text) for one in stacks) > _ANSWER_CHARS:
            error, stacks = f"node {node.name} has sent more than an answer may have", []
        data = {
            "node": node.name,
            "stacks": [
                {
                    "job": one.job,
                    "attempt": one.attempt,
                    "index": one.index,
                    "slot": one.slot,
                    "pid": one.pid,
                    "count": one.count,
                    "text": one.text,
                }
                for one in stacks
            ],
            "left_out": message.left_out,
        }
        asked.answer(error, None if error else data)

    def _nodes_of(self, _asker: Hashable, answer: Answer, arguments: dict[str, Any]) -> None:
        """Tell the names of nodes that may run tasks of a job, at once."""
        job = live_job(self._state, arguments["id"])
        names = sorted(node.name for node in job.known_by if node.linked and node.active)
        answer("", names[:_MOST_NODES])

    def _of_job(self, asker: Hashable, answer: Answer, arguments: dict[str, Any]) -> None:
        job = live_job(self._state, arguments["id"])
        task, name = arguments.get("task"), arguments.get("on_node")
        if task is not None:
            node = _holder(job, task)
        elif name is not None:
            node = self._named(name)
        else:
            raise LookupError("'stacks' takes an argument 'task' or 'on_node'")
        indices = [] if task is None else [task]
        self._ask(asker, answer, node, Inspect(0, job.id, indices, arguments.get("seconds", 0.0)))

    def _of_node(self, asker: Hashable, answer: Answer, arguments: dict[str, Any]) -> None:
        self._ask(asker, answer, self._named(arguments["node"]), Inspect(0, "", [], 0.0))

    def _named(self, name: str) -> Node:
        node = self._state.fleet.by_name.get(name)
        if node is None:
            raise LookupError(f"no node {name!r} here; `manyhands nodes` lists them")
        return node

    def _ask(self, asker: Hashable, answer: Answer, node: Node, question: Inspect) -> None:
        mine = sum(one.asker == asker for one in self._open.values())
        if mine >= MOST_OF_ASKER or len(self._open) >= MOST:
            raise LookupError("too many such questions wait for nodes: ask again in a while")
        if not node.linked:
            raise LookupError(f"node {node.name} has no link to the broker just now")
        state = self._state
        number = state.random.getrandbits(63)
        job, seconds = question.job, question.seconds
        self._open[number] = _Open(asker, answer, node, job)
        state.send(node.peer, Inspect(number, job, question.indices, seconds))
        answer_by = state.now + seconds + ANSWER_SECONDS
        state.timers.await_peer(answer_by, lambda _now: self._expire(number))

    def _expire(self, number: int) -> None:
        asked = self._open.pop(number, None)
        if asked is not None:
            asked.answer(f"node {asked.node.name} has not answered", None)


def _holder(job: Job, index: int) -> Node:
    """Return the node that has a task.

    Raises:
        LookupError: none has it; the text says what the task does.
    """
    for chunk, lo, _ in job.pieces([index]):
        state, holder = TaskState(chunk.states[lo]), chunk.holders[lo]
        if holder is not None:
            return holder
        raise LookupError(f"task {index} of job {job.id} {_WORDS.get(state, 'does not run')}")
    known = index < job.total
    raise LookupError(
        f"task {index} of job {job.id} {'has ended' if known else 'is not one of its tasks'}"
    )
