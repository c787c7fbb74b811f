"""What the broker tells people: jobs, nodes, figures."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgpack

from manyhands_broker.core.model.task_state import State
from manyhands_broker.core.queries import autoscaling

if TYPE_CHECKING:
    from manyhands_broker.core.model.job import Job
    from manyhands_broker.core.model.node import Node
    from manyhands_broker.core.transitions import Book

#: Jobs in one answer: it is a single header frame, and nobody reads more at a time.
PAGE_JOBS = 1_000
#: Bytes of one answer behind which a page ends, older events are left out, and nodes are told of in
#: fewer words: clients and nodes choose the texts in it.
PAGE_BYTES = 1 << 20
#: Bytes of an option that is told where many jobs are.
_OPTION_BYTES = 512
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
        """Whether it may see what is in jobs of an account."""
        return self.commands or self.account == account


def describe_job(book: Book, job: Job) -> dict[str, Any]:
    """A job in plain values. `submitted` is in Unix seconds, `seconds` the run time of its tasks.

    `copies`: tasks that run twice now; `speculated`: those that ever did.
    """
    counts, speculation = job.counts, job.speculation
    return {
        "id": job.id,
        "name": job.options.name,
        "function": book.functions.name(job.function),
        "state": _job_state(job),
        "open": not job.closed,
        "tasks": job.total,
        "queued": counts[State.QUEUED],
        "running": counts[State.ASSIGNED],
        "done": counts[State.DONE],
        "failed": counts[State.FAILED],
        "cancelled": counts[State.CANCELLED],
        "priority": job.options.priority,
        "durable": job.options.durable,
        "options": job.options.to_map(),
        "digest": job.function,
        "copies": speculation.copies if speculation is not None else 0,
        "speculated": speculation.given if speculation is not None else 0,
        "story": list(job.story),
        "seconds": job.seconds,
        "submitted": job.submitted + book.epoch,
        "session": job.session.name,
        "account": job.session.account,
        "owner": book.ledgers.called(job.session.account),
    }


def describe_node(book: Book, node: Node, now: float, needed: AbstractSet[str]) -> dict[str, Any]:
    """A node in plain values, with the figures of its last heartbeat.

    `needed`: the labels that waiting jobs need; those that it has not got are told.
    """
    return {
        "name": node.name,
        "state": node.state,
        "slots": node.slots,
        "resources": dict(node.resources),
        "free": dict(node.free),
        "held": node.held,
        "lent": len(node.resting),
        "running": min(node.held, node.slots),
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
        "lacks": [] if node.labels is None else sorted(needed - node.labels)[:_MOST_LACKS],
        **book.figures(node.row),
    }


def _word(node: Node, name: str) -> str:
    return str(node.info.get(name, ""))[:_WORD]


def answer(book: Book, what: str, arguments: dict[str, Any], now: float, reader: Reader) -> Any:
    """The data of a `Reply`.

    Raises:
        LookupError: nothing is known by that name; the text says which.
    """
    if what == "jobs":
        return _page(book, arguments, reader)
    if what == "job":
        return _told_to(reader, _job(book, str(arguments.get("id", ""))))
    if what == "nodes":
        return _nodes(book, now)
    if what == "events":
        return _events(book, reader)
    if what == "stats":
        return {
            "queued": book.queued,
            "running": sum(session.assigned for session in book.sessions.values()),
            "jobs": len(book.jobs),
            "sessions": len(book.sessions),
            "nodes": len(book.fleet),
            "slots": book.fleet.slots,
            "counters": dict(book.counters),
        }
    if what == "health":
        return {**autoscaling.summary(book), "problems": autoscaling.problems(book)}
    raise LookupError(f"unknown question {what!r}")


def _job(book: Book, wanted: str) -> dict[str, Any]:
    if wanted in book.jobs:
        return describe_job(book, book.jobs[wanted])
    if (kept := book.kept.get(wanted)) is not None:
        return kept
    for old in filter(lambda old: old["id"] == wanted, reversed(book.history)):
        return dict(old)
    raise LookupError(f"no job {wanted[:64]!r} here; `manyhands jobs` lists them")


def _told_to(reader: Reader, job: dict[str, Any]) -> dict[str, Any]:
    """A job without the last words of its tasks, unless these are the reader's."""
    return job if reader.may_read(str(job.get("account", ""))) else {**job, "story": []}


def _nodes(book: Book, now: float) -> list[dict[str, Any]]:
    needed: set[str] = set().union(*book.ready.needs())
    found = []
    size = 0
    for node in book.fleet:
        told = describe_node(book, node, now, needed)
        if size < PAGE_BYTES:
            size += len(msgpack.packb([told[name] for name in _LONG]))
        else:
            told.update({name: type(told[name])() for name in _LONG})
        found.append(told)
    return found


def _events(book: Book, reader: Reader) -> list[dict[str, Any]]:
    """The latest events. What nodes say may repeat what tasks have printed: that is for admins."""
    found: list[dict[str, Any]] = []
    size = 0
    for event in reversed(book.events):
        told = dict(event, at=event["at"] + book.epoch)
        if told.pop("private") and not reader.commands:
            told.update(text="told to admins alone", details={})
        size += len(msgpack.packb(told))
        if found and size > PAGE_BYTES:
            break
        found.append(told)
    return found[::-1]


def _page(book: Book, arguments: dict[str, Any], reader: Reader) -> list[dict[str, Any]]:
    """Jobs behind the first ``skip`` of all whose ids begin with ``begins``, at most ``limit``.

    Fewer where their texts are long, but at least one; and without options that are long.
    """
    skip, limit = arguments.get("skip", 0), arguments.get("limit", PAGE_JOBS)
    begins = arguments.get("begins", "")
    limit = min(limit, PAGE_JOBS)
    live: Iterable[Job] = book.jobs.values()
    past: Iterable[dict[str, Any]] = book.history
    kept: Iterable[str] = book.kept
    if begins:
        live = (job for job in live if job.id.startswith(begins))
        past = (old for old in past if old["id"].startswith(begins))
        kept = (job_id for job_id in kept if job_id.startswith(begins))
    every: Iterable[Any] = chain(live, past, kept)
    found: list[dict[str, Any]] = []
    size = 0
    for one in islice(every, skip, skip + limit):
        job = _told_to(reader, _told(book, one))
        job = {**job, "options": without_long(job["options"])}
        size += len(msgpack.packb(job))
        if found and size > PAGE_BYTES:
            break
        found.append(job)
    return found


def without_long(options: dict[str, Any]) -> dict[str, Any]:
    """A job's options but for those of very many characters."""
    return {
        name: value
        for name, value in options.items()
        if type(value) in (bool, int, float) or len(msgpack.packb(value)) <= _OPTION_BYTES
    }


def _told(book: Book, one: Job | dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(one, str):
        return book.kept[one]
    return one if isinstance(one, dict) else describe_job(book, one)


def _job_state(job: Job) -> str:
    counts = job.counts
    if job.finished:
        return (
            "cancelled" if counts[State.CANCELLED] else "failed" if counts[State.FAILED] else "done"
        )
    if job.paused:
        return "paused"
    if job.waiting or job.awaits:
        return "waiting"
    if counts[State.ASSIGNED]:
        return "running"
    return "queued" if counts[State.QUEUED] else "open"
