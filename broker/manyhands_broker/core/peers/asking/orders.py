"""What people order: of jobs to pause, resume, cancel, forget, retry; of nodes to drain; a backup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.peers.asking.retrying import Retries
from manyhands_broker.core.peers.durable import Durable
from manyhands_broker.core.peers.standings import Standings
from manyhands_broker.core.queries.job_lookup import live_job, unknown
from manyhands_broker.core.records import JobMarked
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.messages import Drain


class Orders:
    """Orders that come as `Query`. Each raises `LookupError` with a sentence if it cannot be done."""

    def __init__(
        self,
        state: SchedulerState,
        durable: Durable,
        cancel: Callable[[Job], None],
        standings: Standings,
        retries: Retries,
    ) -> None:
        self._state = state
        self._standings = standings
        self._durable = durable
        self._cancel = cancel
        self.by_name: dict[str, Callable[[dict[str, Any]], Any]] = {
            "pause": self._pause,
            "resume": self._resume,
            "cancel": self._cancel_job,
            "forget": self._forget,
            "retry": retries.order,
            "drain": self._drain,
            "backup": self._backup,
        }

    def _pause(self, arguments: dict[str, Any]) -> Any:
        """Start nothing more of a job: its nodes give back what waits there, others' tasks too."""
        job = self._live(arguments)
        job.paused = True
        self._mark(job, "paused")
        for node in sorted(job.known_by, key=lambda node: node.name):
            waiting = node.active - node.slots
            if node.linked and job in node.loads and waiting > 0 and not node.recalling:
                self._state.recall(node, waiting)
        return {"id": job.id, "paused": True}

    def _resume(self, arguments: dict[str, Any]) -> Any:
        job = self._live(arguments)
        job.paused = False
        self._mark(job, "resumed")
        self._state.ready.add(job)
        return {"id": job.id, "paused": False}

    def _cancel_job(self, arguments: dict[str, Any]) -> Any:
        job = self._live(arguments)
        self._cancel(job)
        return {"id": job.id, "cancelled": True}

    def _forget(self, arguments: dict[str, Any]) -> Any:
        wanted = str(arguments.get("id", ""))
        if wanted in self._state.jobs:
            raise LookupError(
                f"job {wanted} is not over; cancel it first: manyhands cancel {wanted}"
            )
        if wanted not in self._state.finished_jobs:
            raise LookupError(unknown(wanted))
        dependents = self._durable.dependents(wanted)
        if dependents:
            raise LookupError(
                f"the results of job {wanted} are still needed by {', '.join(dependents[:5])}"
            )
        self._durable.forget(wanted)
        return {"id": wanted, "forgotten": True}

    def _drain(self, arguments: dict[str, Any]) -> Any:
        """Give a node nothing more: it hands back what waits, finishes what runs, and leaves."""
        state, wanted = self._state, str(arguments.get("node", ""))
        node = state.fleet.by_name.get(wanted)
        if node is None:
            raise LookupError(f"no node {wanted!r} here; `manyhands nodes` lists them")
        if not node.drain:
            node.drain, node.draining = "an operator asked for it", True
            state.fleet.update(node)
            if node.linked:
                state.send(node.peer, Drain(node.drain))
        return {"name": node.name, "boot_id": node.boot_id.hex(), "active": node.active}

    def _backup(self, arguments: dict[str, Any]) -> Any:
        """Begin a copy of the journal, or tell how far it is."""
        directory = arguments["directory"]
        if not directory.startswith("/"):
            raise LookupError(
                "a backup takes a directory from the root on, as the broker's host has it"
            )
        return self._state.store.backup(directory, begin=arguments.get("begin", True))

    def _live(self, arguments: dict[str, Any]) -> Job:
        return live_job(self._state, str(arguments.get("id", "")))

    def _mark(self, job: Job, mark: str) -> None:
        if job.options.durable:
            self._state.record(JobMarked(job.id, mark))
        else:
            self._standings.tell(job)
