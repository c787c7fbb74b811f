"""A job's history in the Trace Event Format, which Perfetto and chrome://tracing open."""

from __future__ import annotations

from typing import Any


def of_job(job: dict[str, Any], history: dict[str, Any]) -> dict[str, Any]:
    """Return the document: a process for each node, a thread for each slot, the counts as lines."""
    nodes = {
        name: pid for pid, name in enumerate(sorted({run["node"] for run in history["runs"]}), 1)
    }
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": f"job {job['id']}"}}
    ]
    for name, pid in nodes.items():
        events.append({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}})
    slots = sorted({(run["node"], run["slot"]) for run in history["runs"]})
    for node, slot in slots:
        arguments = {"name": f"slot {slot}"}
        row = {"ph": "M", "name": "thread_name", "pid": nodes[node], "tid": slot}
        events.append({**row, "args": arguments})
    events += [_span(job, run, nodes[run["node"]]) for run in history["runs"]]
    columns = history["columns"][1:]
    for at, *counts in history["timeline"]:
        counted = dict(zip(columns, counts, strict=True))
        events.append({"ph": "C", "name": "tasks", "pid": 0, "ts": at * 1e6, "args": counted})
    failed = history["failures"]["first"]
    events += [_failure(one, nodes.get(one["node"], 0)) for one in failed]
    about = {"job": job["id"], "tasks": job["tasks"], "tasks in this file": _tasks(history)}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _span(job: dict[str, Any], run: dict[str, Any], pid: int) -> dict[str, Any]:
    last = run["first"] + run["tasks"] - 1
    which = f"task {run['first']}" if run["tasks"] == 1 else f"tasks {run['first']} to {last}"
    return {
        "ph": "X",
        "name": job["function"] or job["name"] or "task",
        "cat": "task",
        "pid": pid,
        "tid": run["slot"],
        "ts": run["begun"] * 1e6,
        "dur": run["seconds"] * 1e6,
        "args": {
            "which": which,
            "attempt": run["attempt"],
            "CPU seconds": run["cpu"],
            "peak memory of the process, KiB": run["peak"],
            "bytes of arguments": run.get("given", 0),
            "bytes of results": run["nbytes"],
            **_waits(run),
        },
    }


def _waits(run: dict[str, Any]) -> dict[str, float]:
    """Return the seconds that a run waited, as far as they are known."""
    queued, sent, found = run.get("queued"), run.get("sent"), {}
    if queued is not None and sent is not None:
        found["seconds queued at the broker"] = round(max(0.0, sent - queued), 6)
    if sent is not None:
        found["seconds waited on the node"] = round(max(0.0, run["begun"] - sent), 6)
    return found


def _failure(one: dict[str, Any], pid: int) -> dict[str, Any]:
    return {
        "ph": "i",
        "s": "p",
        "name": f"task {one['task']} {one['what']}",
        "cat": "failure",
        "pid": pid,
        "tid": 0,
        "ts": one["at"] * 1e6,
        "args": {"attempt": one["attempt"], "error": one["error"]},
    }


def _tasks(history: dict[str, Any]) -> int:
    return sum(run["tasks"] for run in history["runs"])
