"""What the broker tells people: jobs, nodes, figures."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from manyhands_broker.core import demand
from manyhands_broker.core.states import State

if TYPE_CHECKING:
    from manyhands_broker.core.book import Book
    from manyhands_broker.core.job import Job
    from manyhands_broker.core.node import Node

#: Jobs in one answer: it is a single header frame, and nobody reads more at a time.
PAGE_JOBS = 1_000


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


def describe_node(book: Book, node: Node, now: float) -> dict[str, Any]:
    """A node in plain values, with the figures of its last heartbeat."""
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
        "host": str(node.info.get("host", "")),
        "pid": node.info.get("pid", 0),
        "python": str(node.info.get("python", "")),
        "manyhands": str(node.info.get("manyhands", "")),
        "cloudpickle": str(node.info.get("cloudpickle", "")),
        "labels": sorted(node.labels or ()),
        "lacks": _lacks(book, node),
        **book.figures(node.row),
    }


def _lacks(book: Book, node: Node) -> list[str]:
    """Labels that keep the node from running what waits."""
    if node.labels is None:
        return []
    return sorted(set().union(*book.ready.needs()) - node.labels)


def answer(book: Book, what: str, arguments: dict[str, Any], now: float) -> Any:
    """The data of a `Reply`.

    Raises:
        LookupError: nothing is known by that name; the text says which.
    """
    if what == "jobs":
        return _page(book, arguments)
    if what == "job":
        wanted = str(arguments.get("id", ""))
        if wanted in book.jobs:
            return describe_job(book, book.jobs[wanted])
        if (kept := book.kept.get(wanted)) is not None:
            return kept
        for old in reversed(book.history):
            if old["id"] == wanted:
                return old
        raise LookupError(f"no job {wanted!r} here; `manyhands jobs` lists them")
    if what == "nodes":
        return [describe_node(book, node, now) for node in book.fleet]
    if what == "events":
        return [dict(event, at=event["at"] + book.epoch) for event in book.events]
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
        return {**demand.summary(book), "problems": demand.problems(book)}
    raise LookupError(f"unknown question {what!r}")


def _page(book: Book, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Jobs behind the first ``skip`` of all whose ids begin with ``begins``, at most ``limit``."""
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
    found: list[Any] = list(islice(chain(live, past, kept), skip, skip + limit))
    return [_told(book, one) for one in found]


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
