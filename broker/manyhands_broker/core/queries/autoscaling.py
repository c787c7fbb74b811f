"""How large a fleet the work at hand is worth, and how it is at the moment: what decides on scaling."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import islice
from typing import Any

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.requirements import Kind
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.state.scheduler_state import SchedulerState

#: Jobs that are looked at; the others are taken to be like these.
_SAMPLE = 1_000
#: Slots that are asked for at most: tasks may ask for any number of cores.
_MOST_SLOTS = 1_000_000
#: Kinds of tasks that are told apart.
_KINDS = 32


def summary(state: SchedulerState) -> dict[str, Any]:
    """Return the cluster in figures that cost no more for ten million tasks than for ten.

    ``queued``: tasks that no node has. ``active``: tasks that nodes have, ``running`` of them on a slot.
    ``slots``: of nodes that take work. ``slots_wanted``: see the function of that name; ``wanted`` is
    the same by what tasks need of a node, the most wanted first. ``nodes``: by state.
    ``node_cpu`` (cores) and ``node_resident`` (bytes): of all nodes, by their last heartbeats.
    """
    states = dict.fromkeys(("ready", "suspected", "draining"), 0)
    slots = running = active = resident = 0
    cpu = 0.0
    for node in state.fleet:
        states[node.state] += 1
        slots += 0 if node.state == "draining" else node.slots
        running += min(node.active, node.slots)
        active += node.active
        figures = state.figures(node.row)
        cpu += figures.get("cpu", 0.0)
        resident += figures.get("rss", 0)
    wanted = slots_wanted(state)
    return {
        "queued": state.queued,
        "active": active,
        "running": running,
        "slots": slots,
        "slots_wanted": max(running, _whole(sum(wanted.values()))),
        "wanted": [
            {
                "resources": dict(kind.resources),
                "labels": sorted(kind.needs),
                "slots": _whole(slots),
            }
            for kind, slots in sorted(wanted.items(), key=lambda item: -item[1])[:_KINDS]
        ],
        "nodes": states,
        "jobs": len(state.jobs),
        "sessions": len(state.sessions),
        "node_cpu": cpu,
        "node_resident": resident,
    }


def _whole(slots: float) -> int:
    return math.ceil(min(slots, _MOST_SLOTS))


def slots_wanted(state: SchedulerState) -> dict[Kind, float]:
    """Return the slots that would be done with all tasks in `Limits.scale_within` seconds.

    Told by the kind of tasks: what they need of a node. By the measured duration of each job's tasks.
    A job that was not measured yet counts one slot for each task, and no job counts more. Tasks that may
    not run now count only if they do.
    """
    wanted: defaultdict[Kind, float] = defaultdict(float)
    limited: dict[Session, defaultdict[Kind, float]] = {}
    queued = 0
    for job in islice(state.jobs.values(), _SAMPLE):
        queued += job.counts[TaskState.QUEUED]
        slots = _slots_for(job, state.limits.scale_within)
        if slots:
            session = job.session
            share = limited.setdefault(session, defaultdict(float)) if session.limit else wanted
            share[job.kind] += slots
    for session, share in limited.items():
        fits = min(1.0, session.limit / sum(share.values()))
        for kind, slots in share.items():
            wanted[kind] += slots * fits
    more = state.queued / queued if 0 < queued < state.queued else 1.0
    return {kind: slots * more for kind, slots in wanted.items()}


def _slots_for(job: Job, within: float) -> float:
    tasks = job.counts[TaskState.ASSIGNED]
    if job.runnable:
        tasks += job.counts[TaskState.QUEUED] - job.behind
    if not tasks:
        return 0.0
    slots = float(tasks)
    if job.estimate is not None:
        slots = min(slots, max(1.0, tasks * job.estimate / within))
    # A slot offers one core unless its node says otherwise.
    return slots * max(1.0, job.options.resources.get("cpus", 1.0))


def problems(state: SchedulerState) -> list[str]:
    """Return what keeps the broker from taking work, a sentence each; empty if nothing does."""
    if not state.store.has_room(0):
        return [
            state.store.gone()
            or "the journal has no room, so durable jobs are refused; forget jobs or free the disk"
        ]
    return []
