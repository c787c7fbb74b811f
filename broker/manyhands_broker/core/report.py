"""What the broker tells people: jobs, nodes, figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands_broker.core import demand
from manyhands_broker.core.states import State

if TYPE_CHECKING:
    from manyhands_broker.core.book import Book
    from manyhands_broker.core.job import Job
    from manyhands_broker.core.node import Node


def describe_job(book: Book, job: Job) -> dict[str, Any]:
    """A job in plain values. `submitted` is in Unix seconds, `seconds` the run time of its tasks."""
    counts = job.counts
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
        "story": [line for lines in list(job.blames.values())[:20] for line in lines],
        "seconds": job.seconds,
        "submitted": job.submitted + book.epoch,
        "session": job.session.name,
        "owner": job.session.account,
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
        "running": min(node.held, node.slots),
        "window": node.window,
        "done": node.done,
        "phi": node.phi,
        "age": now - node.joined,
        "lease": max(0.0, node.lease_until - now),
        "row": node.row,
        "boot_id": node.boot_id.hex(),
        "key": node.who.name,
        "host": str(node.info.get("host", "")),
        "pid": node.info.get("pid", 0),
        "python": str(node.info.get("python", "")),
        "manyhands": str(node.info.get("manyhands", "")),
        **book.figures(node.row),
    }


def answer(book: Book, what: str, arguments: dict[str, Any], now: float) -> Any:
    """The data of a `Reply`.

    Raises:
        LookupError: nothing is known by that name; the text says which.
    """
    if what == "jobs":
        live = [describe_job(book, job) for job in book.jobs.values()]
        return [*live, *book.history, *book.kept.values()]
    if what == "job":
        wanted = str(arguments.get("id", ""))
        if wanted in book.jobs:
            return describe_job(book, book.jobs[wanted])
        if wanted in book.kept:
            return book.kept[wanted]
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
