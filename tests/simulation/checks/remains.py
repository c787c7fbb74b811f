"""What the cores still hold when everything is over: there should be nothing."""

from __future__ import annotations

from typing import Any

from manyhands._session import Session
from manyhands_broker.core import Core
from manyhands_worker.core.node_core import NodeCore


def remains_of_broker(core: Core) -> list[str]:
    """Entries in the scheduler's state that are not needed any more."""
    state = core.state
    left: dict[str, list[Any]] = {
        "jobs": list(state.jobs),
        "sessions": [session.name for session in state.sessions.values()],
        "links of sessions": list(state.session_of),
        "jobs that wait for others": list(state.followers),
        "unwritten jobs": list(state.unwritten),
        "sessions to report to": list(state.reporting),
        "readers": list(state.readers),
        "orphans": list(core._orphans._tasks),
        "results that tasks need": [s.name for s in state.sessions.values() if s.sources],
        "stored values": [key for shelf in core._value_relay._shelves.values() for key in shelf],
        "users of functions": list(state.functions._users),
        "jobs that wait for functions": list(state.functions._waiting),
    }
    found = [f"{len(what)} {name}: {what[:5]}" for name, what in left.items() if what]
    figures: dict[str, float] = {
        "queued tasks": state.queued,
        "resident bytes": state.resident,
        "bytes of orphans": core._orphans._bytes,
    }
    for owner in state.owners.values():
        figures[f"jobs of {owner.name}"] = len(owner.jobs)
        figures[f"unfinished tasks of {owner.name}"] = owner.unfinished
        figures[f"unfinished bytes of {owner.name}"] = owner.unfinished_bytes
        figures[f"assigned tasks of {owner.name}"] = owner.assigned
    for node in state.fleet:
        figures[f"tasks on {node.name}"] = node.active
        figures[f"loads on {node.name}"] = len(node.loads)
        figures[f"suspects tasks on {node.name}"] = node.suspects
        figures[f"twins on {node.name}"] = len(node.twins)
        figures[f"attempts that are being stopped on {node.name}"] = len(node.stopping)
        taken = {name: node.resources[name] - free for name, free in node.free.items()}
        figures[f"resources of {node.name}"] = round(sum(map(abs, taken.values())), 6)
    return found + [f"{count} {name}" for name, count in figures.items() if count]


def remains_of_node(core: NodeCore) -> list[str]:
    """Entries in a node's tables that have no more use."""
    work = core._work
    figures = {
        "held tasks": len(work),
        "doomed tasks": len(work._doomed),
        "waiting tasks": work._scheduler.queue.waiting,
        "functions that are waited for": len(list(work._scheduler.queue.missing())),
        "bytes to be acknowledged": work._outbox.nbytes,
        "tasks asked back": work._recalled,
        "slots in work": core.running,
    }
    return [f"{count} {name}" for name, count in figures.items() if count]


def remains_of_session(session: Session) -> list[str]:
    """Entries in a client's table of jobs that have no more use."""
    jobs = session._jobs
    figures = {
        "jobs": len(jobs._jobs),
        "functions": len(jobs._functions),
        "unended tasks": jobs.unended_tasks,
        "unended bytes": jobs.unended_bytes,
        "unsent tasks": jobs.unsent_tasks,
        "questions": len(session._questions),
        "results that are needed": len(jobs.results.needed),
        "inputs that have not ended": len(jobs.results.inputs),
        "offers": len(session._results._held._offers),
    }
    return [f"{count} {name}" for name, count in figures.items() if count]
