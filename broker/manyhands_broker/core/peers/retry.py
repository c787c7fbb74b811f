"""Whether a task that failed runs again, and when."""

from __future__ import annotations

import random

from manyhands_broker.core.model.job import Job
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status


def retry_delay(
    job: Job, index: int, status: Status, body: Payload, rng: random.Random
) -> float | None:
    """Return the seconds to wait before the next run, or `None` if this failure is final.

    Exponential back-off with equal jitter: half of the delay is fixed, half random, so that tasks
    which failed together do not come back together.
    """
    options = job.options
    tries = job.tries.get(index, 0)
    if status not in (Status.RAISED, Status.TIMED_OUT) or tries >= options.retries:
        return None
    if options.retry_on and not _matches(options.retry_on, status, body):
        return None
    job.tries[index] = tries + 1
    delay: float = min(options.retry_delay * 2.0 ** min(tries, 60), options.retry_max_delay)
    return delay / 2 + rng.random() * delay / 2


def _matches(names: tuple[str, ...], status: Status, body: Payload) -> bool:
    if status == Status.TIMED_OUT:
        return "TimeoutError" in names or "TaskTimeout" in names
    failure = Failure.decode(body)
    kinds = {failure.type, failure.type.rpartition(".")[2], *failure.bases}
    return not kinds.isdisjoint(names)
