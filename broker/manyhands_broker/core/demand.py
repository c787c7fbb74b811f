"""How large a fleet the work at hand is worth, and how it is at the moment: what decides on scaling."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from manyhands_broker.core.states import State

if TYPE_CHECKING:
    from manyhands_broker.core.book import Book
    from manyhands_broker.core.job import Job
    from manyhands_broker.core.session import Session

#: Jobs that are looked at; the others are taken to be like these.
_SAMPLE = 1_000


def summary(book: Book) -> dict[str, Any]:
    """The cluster in figures that cost no more for ten million tasks than for ten.

    ``queued``: tasks that no node holds. ``held``: tasks that nodes hold, ``running`` of them on a slot.
    ``slots``: of nodes that take work. ``slots_wanted``: see `slots_wanted`. ``nodes``: by state.
    ``node_cpu`` (cores) and ``node_resident`` (bytes): of all nodes, by their last heartbeats.
    """
    states = dict.fromkeys(("ready", "suspected", "draining"), 0)
    slots = running = held = resident = 0
    cpu = 0.0
    for node in book.fleet:
        state = node.state
        states[state] += 1
        slots += 0 if state == "draining" else node.slots
        running += min(node.held, node.slots)
        held += node.held
        figures = book.figures(node.row)
        cpu += figures.get("cpu", 0.0)
        resident += figures.get("rss", 0)
    return {
        "queued": book.queued,
        "held": held,
        "running": running,
        "slots": slots,
        "slots_wanted": max(running, slots_wanted(book)),
        "nodes": states,
        "jobs": len(book.jobs),
        "sessions": len(book.sessions),
        "node_cpu": cpu,
        "node_resident": resident,
    }


def slots_wanted(book: Book) -> int:
    """As many slots as would be done with what is queued and held in `Limits.scale_within` seconds.

    By the measured duration of each job's tasks; one slot for each task of a job that was not
    measured yet, and never more than one for each. Tasks that may not run now count only if they do.
    """
    wanted = 0.0
    queued = 0
    by_session: dict[Session, float] = {}
    for job in islice(book.jobs.values(), _SAMPLE):
        queued += job.counts[State.QUEUED]
        slots = _slots_for(job, book.limits.scale_within)
        if job.session.limit:
            by_session[job.session] = by_session.get(job.session, 0.0) + slots
        else:
            wanted += slots
    wanted += sum(min(slots, session.limit) for session, slots in by_session.items())
    if 0 < queued < book.queued:
        wanted *= book.queued / queued
    return math.ceil(wanted)


def _slots_for(job: Job, within: float) -> float:
    tasks = job.counts[State.ASSIGNED]
    if job.runnable:
        tasks += job.counts[State.QUEUED]
    if not tasks:
        return 0.0
    slots = float(tasks)
    if job.estimate is not None:
        slots = min(slots, max(1.0, tasks * job.estimate / within))
    # A slot offers one core unless its node says otherwise.
    return slots * max(1.0, job.options.resources.get("cpus", 1.0))


def problems(book: Book) -> list[str]:
    """What keeps the broker from taking work, a sentence each; empty if nothing does."""
    if not book.store.has_room(0):
        return [
            "the journal has no room, so durable jobs are refused; forget jobs or free the disk"
        ]
    return []
