"""What the dashboard shows: aggregates and tables of few figures a row, made for those who look on.

Tables are maps from a name to a row of figures, so that what is sent on are the rows that have changed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from manyhands_broker.core.history.histories import CLUSTER_COLUMNS
from manyhands_broker.core.history.job_history import COLUMNS
from manyhands_broker.core.history.running import RunningTask, gather
from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.summaries import without_long
from manyhands_broker.core.queries import answers, autoscaling
from manyhands_broker.core.queries.answers import Reader
from manyhands_broker.core.queries.explain import reasons
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared import __version__

#: Jobs in the table of jobs, and in the overview.
MOST_JOBS = 200
OVERVIEW_JOBS = 12
#: Samples of the cluster in the overview, about half a second apart; events; pieces of output.
POINTS = 600
EVENTS = 200
OUTPUTS = 200
#: Runs in one answer, and in the first.
RUNS = 500
FIRST_RUNS = 1_500
#: Characters of a name in a table.
_NAME_CHARS = 200

#: The columns of a row of each table.
JOB_COLUMNS = (
    *("name", "function", "state", "tasks", "queued", "active", "done", "failed", "cancelled"),
    *("submitted", "rate", "eta", "owner", "durable"),
)
NODE_COLUMNS = (
    *("state", "slots", "busy", "active", "cpu", "rss", "available", "load", "pressure"),
    *("beat", "done", "version"),
)
#: The views that clients may ask for.
TABLES = ("jobs", "nodes", "stream")
#: Stands for one who sees only what is its own.
_OWNER = Identity(role="client")
_JOB_RUN_COLUMNS = ("node", "slot", "attempt", "first", "tasks", "begun", "seconds", "cpu", "peak")
RUNNING_COLUMNS = ("job", "function", "node", "slot", "attempt", "first", "begun")
RUN_COLUMNS = ("job", "function", "node", "slot", "attempt", "first", "tasks", "begun", "seconds")


def overview(
    state: SchedulerState, _arguments: Mapping[str, Any], reader: Reader
) -> dict[str, Any]:
    """Return the cluster's figures, how they were lately, its nodes, and the latest jobs."""
    points = list(state.histories.cluster)[-POINTS:]
    epoch = state.epoch
    return {
        "figures": {**autoscaling.summary(state), "version": __version__},
        "problems": autoscaling.problems(state),
        "point_columns": list(CLUSTER_COLUMNS),
        "points": {f"{point[0] + epoch:.1f}": list(point[1:]) for point in points},
        "node_columns": list(NODE_COLUMNS),
        "nodes": _nodes(state),
        **_job_table(state, reader, OVERVIEW_JOBS),
    }


def jobs(state: SchedulerState, _arguments: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """Return the latest jobs, those that are not over first."""
    return _job_table(state, reader, MOST_JOBS)


def nodes(state: SchedulerState, _arguments: Mapping[str, Any], _reader: Reader) -> dict[str, Any]:
    """Return all nodes."""
    return {"node_columns": list(NODE_COLUMNS), "nodes": _nodes(state)}


def node(state: SchedulerState, arguments: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """Return one node, with the latest events that it told of.

    Raises:
        LookupError: there is none of that name.
    """
    found = state.fleet.by_name.get(str(arguments.get("name", "")))
    if found is None:
        raise LookupError("no node of this name is here; it has left, or never was")
    told = answers.describe_node(state, found, state.now, set().union(*state.ready.needs()))
    events = _events(state, reader)
    return {
        "node": {**told, "cores": found.machine.cores, "reserve": found.machine.reserve},
        "events": [event for event in events if event["node"] == found.name],
        "may": reader.commands,
    }


def job(state: SchedulerState, arguments: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """Return one job: what there is of it, how it went, why it waits, what its tasks printed.

    Raises:
        LookupError: there is none of that id.
    """
    job_id = str(arguments.get("id", ""))
    ask = {"id": job_id}
    info = answers.answer(state, "job", ask, state.now, reader)
    info["options"] = without_long(info["options"])
    info.pop("digest", None)
    private = reader.may_read(str(info.get("account", "")))
    history = answers.answer(state, "history", ask, state.now, reader)
    runs = history.pop("runs", [])
    live = state.jobs.get(job_id)
    return {
        "job": info,
        "columns": list(COLUMNS),
        "history": history,
        "runs": [[run[name] for name in _JOB_RUN_COLUMNS] for run in runs[-RUNS:]],
        "run_columns": list(_JOB_RUN_COLUMNS),
        "waits": reasons(state, live) if live is not None else [],
        "output": _output(state, job_id, info) if private else [],
        "private": private,
        "may": reader.commands or private,
    }


def events(state: SchedulerState, _arguments: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """Return the latest events."""
    return {"events": _events(state, reader)[-EVENTS:]}


def load_tests(
    state: SchedulerState, _arguments: Mapping[str, Any], _reader: Reader
) -> dict[str, Any]:
    """Return the reports of the latest load tests, the latest first."""
    found = reversed(state.load_tests)
    return {"reports": [{"at": at + state.epoch, "by": by, "text": text} for at, by, text in found]}


def programs(
    state: SchedulerState, _arguments: Mapping[str, Any], reader: Reader
) -> dict[str, Any]:
    """Return the processes of programs of several, and what they wait for."""
    if state.coordination is None:
        return {"members": []}
    who = ANYBODY if reader.commands else _OWNER
    return {"members": state.coordination.ask("ps", {"skip": 0}, who, reader.account)}


def stream(state: SchedulerState, arguments: Mapping[str, Any], _reader: Reader) -> dict[str, Any]:
    """Return the runs that nodes have told of since number `seq`, and what runs: a bounded part."""
    seq = arguments.get("seq", 0)
    seq = seq if type(seq) is int else 0
    found = state.histories.since(seq, RUNS if seq else FIRST_RUNS)
    running = [task for task in gather(state.fleet) if _is_known(state, task)]
    named = {run.job for run in found} | {task.job for task in running}
    names = {job_id: _function_name(state, job_id) for job_id in named}
    failed = {(one, task) for one in names for task in _failed_tasks(state, one)}
    return {
        "seq": state.histories.seq,
        "columns": [*RUN_COLUMNS, "failed"],
        "runs": [
            [
                *(run.job, names[run.job], run.node, run.slot, run.attempt, run.first, run.tasks),
                *(run.begun + state.epoch, run.seconds),
                run.tasks == 1 and (run.job, run.first) in failed,
            ]
            for run in found
        ],
        "running": {
            f"{one.slot} {one.node.name}": [
                *(one.job, names[one.job], one.node.name, one.slot, one.attempt, one.task),
                # Not exact: it is told again and again, and is to be the same then.
                round(one.begun + state.epoch, 1),
            ]
            for one in running
        },
        "running_columns": list(RUNNING_COLUMNS),
        "now": round(state.now + state.epoch, 3),
        "slots": {one.name: one.slots for one in state.fleet},
    }


def table(state: SchedulerState, arguments: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """Return one of the views that are tables of the whole cluster, for clients.

    Raises:
        LookupError: it is none of these.
    """
    name = str(arguments["view"])
    if name not in TABLES:
        raise LookupError(f"no view {name!r}; there are {', '.join(TABLES)}")
    return VIEWS[name](state, arguments, reader)


#: View → what makes it.
VIEWS: Mapping[str, Callable[[SchedulerState, Mapping[str, Any], Reader], dict[str, Any]]] = {
    "overview": overview,
    "jobs": jobs,
    "job": job,
    "nodes": nodes,
    "node": node,
    "events": events,
    "loadtests": load_tests,
    "programs": programs,
    "stream": stream,
}


def _nodes(state: SchedulerState) -> dict[str, list[Any]]:
    rows = {}
    for one in state.fleet:
        figures = state.figures(one.row)
        rows[one.name] = [
            *(one.state, one.slots, min(one.active, one.slots), one.active),
            *(round(figures.get("cpu", 0.0), 2), figures.get("rss", 0)),
            *(figures.get("available", 0), round(figures.get("load", 0.0), 2), one.pressure),
            *(round(figures.get("last_beat", 0.0)), one.done),
            str(one.info.get("manyhands", ""))[:_NAME_CHARS],
        ]
    return rows


def _job_table(state: SchedulerState, reader: Reader, most: int) -> dict[str, Any]:
    rows: dict[str, list[Any]] = {}
    for live in islice(reversed(state.jobs.values()), most):
        rows[live.id] = _live_row(state, live)
    durable = (state.finished_jobs[job_id] for job_id in reversed(state.finished_jobs))
    past = heapq.merge(reversed(state.history), durable, key=_ended, reverse=True)
    for old in islice(past, max(0, most - len(rows))):
        rows[old["id"]] = _past_row(old)
    return {
        "job_columns": list(JOB_COLUMNS),
        "jobs": rows,
        "all_jobs": len(state.jobs) + len(state.history) + len(state.finished_jobs),
        "may": reader.commands,
    }


def _live_row(state: SchedulerState, live: Job) -> list[Any]:
    told = state.summary(live)
    history = state.histories.get(live.id)
    progress = {"rate": 0.0, "eta": None} if history is None else history.progress(live, state.now)
    return _row({**told, **progress})


def _ended(told: Mapping[str, Any]) -> float:
    return float(told.get("ended", 0.0))


def _past_row(told: Mapping[str, Any]) -> list[Any]:
    return _row({**told, "rate": 0.0, "eta": None})


def _row(told: Mapping[str, Any]) -> list[Any]:
    row = [told[name] for name in JOB_COLUMNS]
    return [value[:_NAME_CHARS] if isinstance(value, str) else value for value in row]


def _function_name(state: SchedulerState, job_id: str) -> str:
    live = state.jobs.get(job_id)
    if live is not None:
        return state.functions.name(live.function)[:_NAME_CHARS]
    finished = state.finished_jobs.get(job_id)
    if finished is None:
        finished = next((old for old in reversed(state.history) if old["id"] == job_id), None)
    return "" if finished is None else str(finished["function"])[:_NAME_CHARS]


def _failed_tasks(state: SchedulerState, job_id: str) -> set[int]:
    history = state.histories.get(job_id)
    return set() if history is None else {one.task for one in history.failures.first}


def _is_known(state: SchedulerState, task: RunningTask) -> bool:
    """Return whether a task can run there: its job is not over, and the node has some of it."""
    live = state.jobs.get(task.job)
    return live is not None and task.node in live.known_by


def _output(state: SchedulerState, job_id: str, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not info["durable"]:
        return []
    found: list[dict[str, Any]] = answers.answer(
        state, "output", {"id": job_id, "limit": OUTPUTS}, state.now, Reader("", commands=True)
    )
    return found


def _events(state: SchedulerState, reader: Reader) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answers.answer(state, "events", {}, state.now, reader)
    return found
