"""Why tasks wait, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import islice

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.machine import MEMORY
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.labels import lacking
from manyhands_shared.text import amount

#: Jobs of a session that are looked at for one that waits.
_MOST_JOBS = 1_000


def reasons(state: SchedulerState, job: Job) -> list[str]:
    """Return why tasks of a job wait, one sentence each; empty if none do."""
    found = []
    delayed, uncertain = len(job.delayed), len(job.uncertain)
    line = job.counts[TaskState.QUEUED] - delayed - uncertain - job.behind
    if job.behind:
        waits = "waits" if job.behind == 1 else "wait"
        found.append(f"{amount(job.behind, 'task')} {waits} for the results of other tasks")
    if delayed:
        wait = min(job.delayed.values()) - state.now
        found.append(
            f"{amount(delayed, 'task')} failed and will be run again, the next in {max(wait, 0):.1f} s"
        )
    if uncertain:
        found.append(
            f"{amount(uncertain, 'task')} may have run before the broker's start and may not run twice; "
            "they wait for their node"
        )
    if not line:
        found += _on_nodes(job)
        return found
    if job.paused:
        found.append(f"the job is paused; go on with: manyhands resume {job.id}")
    if job.waiting:
        found.append("its function has not arrived from the client")
    if job.awaits:
        found.append(f"it comes after jobs that are not done: {', '.join(sorted(job.awaits))}")
    if job.on_hold:
        found.append("the broker has just started and gives nodes a moment to come back")
    return found + _of_fleet(state, job, found)


def _of_fleet(state: SchedulerState, job: Job, others: list[str]) -> list[str]:
    """Return what nodes and clients have to do with it; `others` are reasons that are known already."""
    found = []
    nodes = [node for node in state.fleet if node.linked]
    able = [node for node in nodes if _could(node, job)]
    if not nodes:
        found.append("no node is connected; start one with: manyhands worker")
    elif not able:
        found += _missing(job, nodes)
    elif not any(node.takes(job.kind.needs) for node in able):
        found += _makers(able, job)
    elif all(node.draining for node in able):
        found.append("every node that could run it is draining")
    elif job.session.cap and job.session.active >= job.session.cap:
        found.append(f"its client runs at most {amount(job.session.cap, 'task')} at once")
    elif not job.session.may_run:
        found.append("its client does not take the results that it has")
    elif not others:
        busy = sum(min(node.active, node.slots) for node in nodes)
        slots = amount(state.fleet.slots, "slot")
        found.append(f"{busy} of {slots} busy, and its turn has not come")
        found += _short(able) + _makers(able, job)
    return found


def standstill(state: SchedulerState, session: Session) -> list[str]:
    """Return why no task of a session runs, one sentence each; empty if one does, or none waits."""
    jobs = islice(session.jobs.values(), _MOST_JOBS)
    if session.active:
        return _unmade(jobs)
    waiting = next((job for job in jobs if job.counts[TaskState.QUEUED]), None)
    return [] if waiting is None else reasons(state, waiting)


def _makers(nodes: Collection[Node], job: Job) -> list[str]:
    """Return which of these nodes make the environment of a job, and which could not."""
    needs = job.kind.needs
    making = sorted(node.name for node in nodes if not node.making.isdisjoint(needs))
    failing = sorted(node.name for node in nodes if node.fails(needs))
    found = []
    if making:
        verb = "makes" if len(making) == 1 else "make"
        found.append(f"{_nodes(making)} {verb} the environment that its tasks require")
    if failing:
        found.append(
            f"{_nodes(failing)} could not make the environment that its tasks require; "
            "the log there says why"
        )
    return found


def _nodes(names: list[str]) -> str:
    return f"node {names[0]}" if len(names) == 1 else f"nodes {', '.join(names[:10])}"


def _unmade(jobs: Iterable[Job]) -> list[str]:
    """Return that all tasks of jobs that are on nodes wait for environments; none if one does not."""
    busy = [job for job in jobs if job.counts[TaskState.ASSIGNED]]
    if not all(job.options.requirements for job in busy):
        return []
    for job in busy:
        holders = [node for node in job.known_by if job in node.loads]
        if any(node.making.isdisjoint(job.kind.needs) for node in holders):
            return []
    return _makers(busy[0].known_by, busy[0]) if busy else []


def _short(able: list[Node]) -> list[str]:
    """Return what lack of memory has to do with it."""
    short = [node.name for node in able if node.pressure == MEMORY]
    if len(short) == len(able):
        return ["every node that could run it is short of memory, and gets one task for each slot"]
    names = ", ".join(sorted(short)[:10])
    return [f"nodes that are short of memory get nothing new: {names}"] if short else []


def _on_nodes(job: Job) -> list[str]:
    """Return what there is to say of tasks that do not wait any more."""
    found = []
    if job.counts[TaskState.ASSIGNED]:
        tasks = amount(job.counts[TaskState.ASSIGNED], "task")
        found.append(f"{tasks} on nodes; none waits for one")
        found += _makers(job.known_by, job)
    if job.speculation is not None and (copies := job.speculation.copies):
        found.append(
            f"{copies} of them run on a second node as well, for they take longer than the others"
        )
    return found


def _could(node: Node, job: Job) -> bool:
    """Return whether a task of the job could ever run there."""
    return node.meets(job.kind.needs) and node.could(job.resources)


def _missing(job: Job, nodes: list[Node]) -> list[str]:
    """Return why none of the nodes could ever run it."""
    missing = [
        label
        for label in sorted(job.kind.needs)
        if not any(node.meets(frozenset([label])) for node in nodes)
    ]
    if missing:
        pythons = Counter(str(node.info.get("python", "?")) for node in nodes)
        there = ", ".join(f"{version} ({count})" for version, count in sorted(pythons.items()))
        return [f"{lacking(label)}; nodes by their Python: {there}" for label in missing]
    suited = [node for node in nodes if node.meets(job.kind.needs)]
    if not suited:
        return [f"no node has all that it needs: {', '.join(sorted(job.kind.needs))}"]
    wants = ", ".join(f"{name}={amount:g}" for name, amount in job.resources)
    return [f"no node has what each task takes: {wants}"]
