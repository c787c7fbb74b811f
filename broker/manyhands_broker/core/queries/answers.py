"""What the broker tells people: jobs, nodes, figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

import msgpack

from manyhands_broker.core.model.identity import Identity
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.summaries import without_long
from manyhands_broker.core.queries import autoscaling, past, stored
from manyhands_broker.core.queries.explain import reasons
from manyhands_broker.core.queries.job_lookup import live_job
from manyhands_broker.core.state.scheduler_state import SchedulerState

#: Jobs in one answer: it is a single header frame, and no person reads more at a time.
PAGE_JOBS = 1_000
#: Bytes of one answer: clients and nodes choose the texts in it. Behind these a page ends, older events
#: are left out, and nodes are told of in fewer words.
PAGE_BYTES = 1 << 20
#: What is told of a node only as long as there is room.
_LONG = ("resources", "free", "labels", "lacks")
#: Characters of what a node says of itself.
_WORD = 200
#: Labels that a node lacks, of those that jobs need.
_MOST_LACKS = 64


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: what tasks have printed is for their owner, and for admins."""

    account: str
    commands: bool

    def may_read(self, account: str) -> bool:
        """Return whether it may see what is in jobs of an account."""
        return self.commands or self.account == account

    def owns(self, account: str) -> bool:
        """Return whether jobs of an account are its own; without a key of one's own nothing tells."""
        return Identity.is_same(self.account, account)


def describe_node(
    state: SchedulerState, node: Node, now: float, needed: AbstractSet[str]
) -> dict[str, Any]:
    """Return a node in plain values, with the figures of its last heartbeat.

    `needed`: the labels that waiting jobs need; those that it has not got are told.
    """
    return {
        "name": node.name,
        "state": node.state,
        "slots": node.slots,
        "resources": dict(node.resources),
        "free": dict(node.free),
        "active": node.active,
        "lent": len(node.held_results),
        "running": min(node.active, node.slots),
        "window": node.window,
        "done": node.done,
        "phi": node.phi,
        "pressure": node.pressure,
        "age": now - node.joined,
        "lease": max(0.0, node.lease_until - now),
        "row": node.row,
        "boot_id": node.boot_id.hex(),
        "key": node.who.name,
        "host": _word(node, "host"),
        "pid": node.info.get("pid", 0),
        "python": _word(node, "python"),
        "manyhands": _word(node, "manyhands"),
        "cloudpickle": _word(node, "cloudpickle"),
        "labels": sorted(node.labels or ()),
        "lacks": sorted(need for need in needed if not node.meets(frozenset((need,))))[
            :_MOST_LACKS
        ],
        **state.figures(node.row),
    }


def _word(node: Node, name: str) -> str:
    return str(node.info.get(name, ""))[:_WORD]


def answer(
    state: SchedulerState, what: str, arguments: dict[str, Any], now: float, reader: Reader
) -> Any:
    """Return the data of a `Reply`.

    Raises:
        LookupError: nothing is known by that name; the text says which.
    """
    find = _ANSWERS.get(what)
    if find is None:
        raise LookupError(f"unknown question {what!r}")
    return find(state, _Question(arguments, now, reader))


class _Question(NamedTuple):
    arguments: dict[str, Any]
    now: float
    reader: Reader

    @property
    def job(self) -> str:
        """Id of the job that it is about."""
        return str(self.arguments.get("id", ""))


def _job(state: SchedulerState, question: _Question) -> dict[str, Any]:
    return _told_to(question.reader, _find(state, question.job))


def _stats(state: SchedulerState, _question: _Question) -> dict[str, Any]:
    return {
        "queued": state.queued,
        "active": sum(session.active for session in state.sessions.values()),
        "jobs": len(state.jobs),
        "sessions": len(state.sessions),
        "nodes": len(state.fleet),
        "slots": state.fleet.slots,
        "counters": dict(state.counters),
    }


def _health(state: SchedulerState, _question: _Question) -> dict[str, Any]:
    return {
        **autoscaling.summary(state),
        "problems": autoscaling.problems(state),
        "journal": state.store.is_lasting,
    }


def _history(state: SchedulerState, question: _Question) -> dict[str, Any]:
    account = str(_find(state, question.job).get("account", ""))
    return past.of_job(state, question.job, private=question.reader.may_read(account))


def _why(state: SchedulerState, question: _Question) -> list[str]:
    return reasons(state, live_job(state, question.job))


def _output(state: SchedulerState, question: _Question) -> list[dict[str, Any]]:
    asked = question.arguments
    limit, after, task = asked.get("limit", 1_000), asked.get("after"), asked.get("task")
    return stored.printed(state, question.job, limit, after=after, task=task)


def _find(state: SchedulerState, wanted: str) -> dict[str, Any]:
    if wanted in state.jobs:
        return state.summary(state.jobs[wanted])
    if (finished := state.finished_jobs.get(wanted)) is not None:
        return finished
    for old in filter(lambda old: old["id"] == wanted, reversed(state.history)):
        return dict(old)
    raise LookupError(f"no job {wanted[:64]!r} here; `manyhands jobs` lists them")


def _told_to(reader: Reader, job: dict[str, Any]) -> dict[str, Any]:
    """Return a job without the last words of its tasks, unless these are the reader's."""
    return job if reader.may_read(str(job.get("account", ""))) else {**job, "story": []}


def _nodes(state: SchedulerState, question: _Question) -> list[dict[str, Any]]:
    needed: set[str] = set().union(*state.ready.needs())
    found = []
    size = 0
    for node in state.fleet:
        told = describe_node(state, node, question.now, needed)
        if size < PAGE_BYTES:
            size += len(msgpack.packb([told[name] for name in _LONG]))
        else:
            told.update({name: type(told[name])() for name in _LONG})
        found.append(told)
    return found


def _events(state: SchedulerState, question: _Question) -> list[dict[str, Any]]:
    """Return the latest events. What nodes say may repeat what tasks printed: that is for admins."""
    found: list[dict[str, Any]] = []
    size = 0
    for event in reversed(state.events):
        told = dict(event, at=event["at"] + state.epoch)
        if told.pop("private") and not question.reader.commands:
            told.update(text="told to admins alone", details={})
        size += len(msgpack.packb(told))
        if found and size > PAGE_BYTES:
            break
        found.append(told)
    return found[::-1]


def _jobs(state: SchedulerState, question: _Question) -> list[dict[str, Any]]:
    """Return jobs behind the first ``skip`` of all whose ids begin with ``begins``, at most ``limit``.

    Fewer where their texts are long, but at least one; and without options that are long.
    """
    arguments = question.arguments
    skip, limit = arguments.get("skip", 0), arguments.get("limit", PAGE_JOBS)
    begins = arguments.get("begins", "")
    limit = min(limit, PAGE_JOBS)
    live: Iterable[Job] = state.jobs.values()
    past: Iterable[dict[str, Any]] = state.history
    finished: Iterable[str] = state.finished_jobs
    if begins:
        live = (job for job in live if job.id.startswith(begins))
        past = (old for old in past if old["id"].startswith(begins))
        finished = (job_id for job_id in finished if job_id.startswith(begins))
    every: Iterable[Any] = chain(live, past, finished)
    found: list[dict[str, Any]] = []
    size = 0
    for one in islice(every, skip, skip + limit):
        job = _told_to(question.reader, _told(state, one))
        mine = question.reader.owns(str(job.get("account", "")))
        job = {**job, "options": without_long(job["options"]), "mine": mine}
        size += len(msgpack.packb(job))
        if found and size > PAGE_BYTES:
            break
        found.append(job)
    return found


def _told(state: SchedulerState, one: Job | dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(one, str):
        return state.finished_jobs[one]
    return one if isinstance(one, dict) else state.summary(one)


#: Question → what finds its answer.
_ANSWERS: dict[str, Callable[[SchedulerState, _Question], Any]] = {
    "events": _events,
    "health": _health,
    "history": _history,
    "job": _job,
    "jobs": _jobs,
    "nodes": _nodes,
    "output": _output,
    "stats": _stats,
    "why": _why,
}
