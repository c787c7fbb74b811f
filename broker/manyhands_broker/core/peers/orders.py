"""What people order: of jobs to pause, resume, cancel, retry, forget; of nodes to drain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.peers.durable import Durable
from manyhands_broker.core.peers.standings import Standings
from manyhands_broker.core.queries.explain import reasons
from manyhands_broker.core.records import JobMarked
from manyhands_broker.core.store import Damaged
from manyhands_broker.core.transitions import Book
from manyhands_shared.payloads.payload import nbytes
from manyhands_shared.protocol.messages import Drain


class Control:
    """Orders that come as `Query`. Each raises `LookupError` with a sentence if it cannot be done."""

    def __init__(
        self,
        book: Book,
        durable: Durable,
        cancel: Callable[[Job], None],
        standings: Standings,
    ) -> None:
        self._book = book
        self._standings = standings
        self._durable = durable
        self._cancel = cancel
        self.orders: dict[str, Callable[[dict[str, Any]], Any]] = {
            "pause": self._pause,
            "resume": self._resume,
            "cancel": self._cancel_job,
            "forget": self._forget,
            "failed": self._failed,
            "output": self._output,
            "why": self._why,
            "drain": self._drain,
            "backup": self._backup,
        }

    def _pause(self, arguments: dict[str, Any]) -> Any:
        job = self._live(arguments)
        job.paused = True
        self._mark(job, "paused")
        return {"id": job.id, "paused": True}

    def _resume(self, arguments: dict[str, Any]) -> Any:
        job = self._live(arguments)
        job.paused = False
        self._mark(job, "resumed")
        self._book.ready.add(job)
        return {"id": job.id, "paused": False}

    def _cancel_job(self, arguments: dict[str, Any]) -> Any:
        job = self._live(arguments)
        self._cancel(job)
        return {"id": job.id, "cancelled": True}

    def _forget(self, arguments: dict[str, Any]) -> Any:
        wanted = str(arguments.get("id", ""))
        if wanted in self._book.jobs:
            raise LookupError(
                f"job {wanted} is not over; cancel it first: manyhands cancel {wanted}"
            )
        if wanted not in self._book.kept:
            raise LookupError(_unknown(wanted))
        heirs = self._durable.heirs(wanted)
        if heirs:
            raise LookupError(
                f"the results of job {wanted} are still needed by {', '.join(heirs[:5])}"
            )
        self._durable.forget(wanted)
        return {"id": wanted, "forgotten": True}

    def _failed(self, arguments: dict[str, Any]) -> Any:
        """What a retry needs: payloads of the tasks that failed, from task `first` on.

        `next` is where to go on asking, or `None` after the last.
        """
        book, wanted = self._book, str(arguments.get("id", ""))
        if wanted not in book.kept:
            state = "is not over yet" if wanted in book.jobs else "is not known here"
            raise LookupError(
                f"job {wanted} {state}; only a durable job that is over can be retried"
            )
        position, failed, start = 0, [], arguments.get("first", 0)
        while page := book.store.results(wanted, position, book.limits.page_bytes):
            for stored in page:
                group = stored.group
                failed += [
                    i for i, status in zip(group.indices, group.statuses, strict=True) if status
                ]
            position = page[-1].position
        indices: list[int] = []
        bodies: list[Any] = []
        size = 0
        for index in sorted(index for index in failed if index >= start):
            if size >= book.limits.page_bytes:
                return {"indices": indices, "bodies": bodies, "next": index}
            for body in book.store.bodies(wanted, index, index + 1):
                if isinstance(body, Damaged):
                    text = f"task {index} cannot be retried: {body.reason}"
                    raise LookupError(text)  # noqa: TRY004 - what is lost, not a wrong type
                indices.append(index)
                bodies.append([bytes(b) for b in body] if isinstance(body, tuple) else bytes(body))
                size += nbytes(body)
        return {"indices": indices, "bodies": bodies, "next": None}

    def _output(self, arguments: dict[str, Any]) -> Any:
        wanted = str(arguments.get("id", ""))
        if wanted not in self._book.jobs and wanted not in self._book.kept:
            raise LookupError(_unknown(wanted))
        limit = arguments.get("limit", 1_000)
        lines = self._book.store.output(wanted, limit if type(limit) is int else 1_000)
        size, first = 0, len(lines)
        while first and size < self._book.limits.page_bytes:
            first -= 1
            size += len(lines[first][2].encode())
        return [
            {"index": index, "attempt": attempt, "text": text}
            for index, attempt, text in lines[first:]
        ]

    def _why(self, arguments: dict[str, Any]) -> Any:
        return reasons(self._book, self._live(arguments))

    def _drain(self, arguments: dict[str, Any]) -> Any:
        """Nothing more goes to the node; it hands back what waits, finishes what runs, and leaves."""
        book, wanted = self._book, str(arguments.get("node", ""))
        node = book.fleet.by_name.get(wanted)
        if node is None:
            raise LookupError(f"no node {wanted!r} here; `manyhands nodes` lists them")
        if not node.drain:
            node.drain, node.draining = "an operator asked for it", True
            book.fleet.update(node)
            if node.linked:
                book.send(node.peer, Drain(node.drain))
        return {"name": node.name, "boot_id": node.boot_id.hex(), "held": node.held}

    def _backup(self, arguments: dict[str, Any]) -> Any:
        """Begin a copy of the journal, or tell how far it is."""
        directory = arguments["directory"]
        if not directory.startswith("/"):
            raise LookupError(
                "a backup takes a directory from the root on, as the broker's host has it"
            )
        return self._book.store.backup(directory, begin=arguments.get("begin", True))

    def _live(self, arguments: dict[str, Any]) -> Job:
        wanted = str(arguments.get("id", ""))
        job = self._book.jobs.get(wanted)
        if job is None:
            over = wanted in self._book.kept or any(
                old["id"] == wanted for old in self._book.history
            )
            raise LookupError(f"job {wanted} is over" if over else _unknown(wanted))
        return job

    def _mark(self, job: Job, mark: str) -> None:
        if job.options.durable:
            self._book.record(JobMarked(job.id, mark))
        else:
            self._standings.job(job)


def _unknown(job_id: str) -> str:
    return f"no job {job_id!r} here; `manyhands jobs` lists them"
