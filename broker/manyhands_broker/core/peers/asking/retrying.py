"""Tasks of a durable job that failed or were cancelled, once more: as a new job of the same owner.

The broker has their payloads in its journal, so no client needs to bring them. It reads what failed, and
then the payloads, a page at a time, and goes on with everything else in between. A job of few such tasks
is there as a whole when the order is answered. Of a long one, a broker that ends meanwhile leaves a job
behind that is open: it can be cancelled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.peers.durable import Durable
from manyhands_broker.core.peers.submissions import Submissions
from manyhands_broker.core.queries.job_lookup import unknown
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_broker.core.store import Damaged
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.protocol.messages import SubmitGroup

#: Pages that are read in one drain.
_PAGES = 4
#: Tasks that are read in one step.
_TASKS = 1_024


class Retries:
    """Carries out the order `retry`."""

    def __init__(self, state: SchedulerState, durable: Durable, submissions: Submissions) -> None:
        self._state = state
        self._durable = durable
        self._submissions = submissions

    def order(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Open the new job, and give it its first tasks; return its id, and how many it will have.

        The asker may say as `new_id` what its id is to be: then the order may come twice.

        Raises:
            LookupError: the job is not known, not over, or nothing of it failed; or there is no room.
        """
        wanted = arguments["id"]
        old = self._old(wanted)
        count = old["failed"] + old["cancelled"]
        name = arguments.get("new_id") or f"{self._state.random.getrandbits(64):016x}"
        known = self._state.owner(name)
        if known is not None:
            if known != old["account"]:
                raise LookupError(f"there is a job {name} already")
            return {"id": name, "tasks": count}
        owner = self._durable.owner(str(old["account"]))
        digest = bytes(old.get("digest", b""))
        self._durable.recall(digest, owner.account)
        if self._state.functions.get(digest) is None:
            raise LookupError(f"the function of job {wanted} is not at the broker any more")
        group = SubmitGroup(name, digest, old["options"], 0, False, [])
        try:
            job = self._submissions.add(owner, group)
        except ProtocolError as error:
            raise LookupError(f"job {wanted} cannot be run again: {error}") from None
        self._go_on(job, self._pages(wanted, job))
        return {"id": name, "tasks": count}

    def _old(self, wanted: str) -> dict[str, Any]:
        state = self._state
        old = state.finished_jobs.get(wanted)
        if old is None:
            past = next((one for one in reversed(state.history) if one["id"] == wanted), None)
            if past is not None:
                raise LookupError(
                    f"job {wanted} was not durable: the broker has not kept its tasks; submit it again"
                )
            if wanted in state.jobs:
                raise LookupError(f"job {wanted} is not over yet")
            raise LookupError(unknown(wanted))
        if not old["failed"] + old["cancelled"]:
            raise LookupError(f"no task of job {wanted} failed")
        return old

    def _go_on(self, job: Job, pages: Iterator[list[Payload]]) -> None:
        """Give a new job its next tasks; close it behind the last, or where it cannot have more."""
        state = self._state
        for _ in range(_PAGES):
            if state.jobs.get(job.id) is not job or job.closed:
                # Cancelled meanwhile.
                return
            bodies = next(pages, None)
            options = job.options.to_map()
            group = SubmitGroup(
                job.id, job.function, options, job.total, bodies is None, bodies or []
            )
            try:
                self._submissions.add(job.session, group)
            except ProtocolError as error:
                job.tell(f"the tasks that come next are not run again: {error}")
                end = SubmitGroup(job.id, job.function, options, job.total, True, [])
                self._submissions.add(job.session, end)
                return
            if bodies is None:
                return
        later = math.nextafter(state.now, math.inf)
        state.timers.at(later, lambda _now: self._go_on(job, pages), job)

    def _pages(self, wanted: str, job: Job) -> Iterator[list[Payload]]:
        """Yield the payloads in the order of their tasks, in parts; some are empty."""
        state = self._state
        position, failed = 0, []
        while page := state.store.results(wanted, position, state.limits.page_bytes):
            for stored in page:
                group = stored.group
                ends = zip(group.indices, group.statuses, strict=True)
                failed += [index for index, status in ends if status]
            position = page[-1].position
            yield []
        bodies: list[Payload] = []
        size = 0
        for index in sorted(failed):
            for body in state.store.bodies(wanted, index, index + 1):
                if isinstance(body, Damaged):
                    job.tell(f"task {index} of job {wanted} cannot be run again: {body.reason}")
                    continue
                bodies.append(body)
                size += nbytes(body)
            if size >= state.limits.page_bytes or len(bodies) >= _TASKS:
                yield bodies
                bodies, size = [], 0
        yield bodies
