"""What was, of all jobs: nothing here decides anything, and nothing grows with events or tasks.

Transitions only mark a job as *touched*, once for each batch. Twice a second the counts of those jobs
are sampled. Nodes tell of runs twice a second, in one message each. So a task costs nothing of its own
here, unless it fails; and of failures only some are looked into each second.

The history of a job that is over stays for a while, with that of the latest `MOST_JOBS`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice

from manyhands_broker.core.history.job_history import JobHistory
from manyhands_broker.core.history.runs import MOST_FAILED, Run
from manyhands_broker.core.model.job import Job
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import RUN_FIGURES, RunGroup

#: Seconds between two samples.
INTERVAL = 0.5
#: Jobs with a history; jobs that are sampled at one time.
MOST_JOBS = 500
SAMPLED_JOBS = 1_000
#: Seconds from which on a lone call is worth a history.
LONE_SECONDS = 0.1
#: The latest runs of all jobs, for those who look on.
RECENT_RUNS = 4_096
#: Runs that are taken in each second, evenly chosen. A thousand nodes tell of 64,000, and each costs
#: some microseconds.
RUNS_A_SECOND = 4_000
#: Samples of the cluster: ten minutes of them.
CLUSTER_SAMPLES = 1_200
#: The columns of these samples: counts since the start, then figures of the moment.
CLUSTER_COLUMNS = ("at", "done", "failed", "cancelled", "queued", "running", "slots")


class Histories:
    """The histories of jobs, the latest runs, and the cluster over time."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, JobHistory] = OrderedDict()
        self._touched: dict[Job, None] = {}
        self._next = 0.0
        #: Runs told of since the last sample; one in `_stride` of them is taken in.
        self._told = 0
        self._stride = 1
        #: Runs that nodes have told of since the start.
        self.seq = 0
        self.recent: deque[Run] = deque(maxlen=RECENT_RUNS)
        self.cluster: deque[tuple[float, ...]] = deque(maxlen=CLUSTER_SAMPLES)

    def get(self, job_id: str) -> JobHistory | None:
        """Return what is kept of a job; `None` if nothing is."""
        return self._jobs.get(job_id)

    def forget(self, job_id: str) -> None:
        """Drop what is kept of a job."""
        self._jobs.pop(job_id, None)

    def touch(self, job: Job) -> None:
        """Note that the counts of a job have changed; to be called if that is not noted already."""
        self._touched[job] = None
        job.touched = True

    def queued(self, job: Job, first: int, now: float) -> None:
        """Note when tasks of a job come, from `first` on; those that it begins with need no note."""
        if first:
            self._of(job).arrivals.add(first, now)

    def due(self, now: float) -> bool:
        """Return whether it is time for `sample`."""
        return now >= self._next

    def sample(self, now: float, cluster: Iterable[float]) -> None:
        """Take the counts of jobs that have changed, and figures of the cluster (`CLUSTER_COLUMNS`)."""
        self._next = now + INTERVAL
        self._stride = 1 + int(self._told / (RUNS_A_SECOND * INTERVAL))
        self._told = 0
        self.cluster.append((now, *cluster))
        for job in list(islice(self._touched, SAMPLED_JOBS)):
            del self._touched[job]
            job.touched = False
            if job.total > 1 or job.id in self._jobs:
                self._of(job).sample(job, now)

    def retire(self, job: Job, now: float) -> JobHistory | None:
        """Take the last counts of a job that is over; return what is kept of it.

        Lone calls that no sample has seen leave nothing.
        """
        self._touched.pop(job, None)
        job.touched = False
        if job.total < 2 and job.id not in self._jobs:
            return None
        history = self._of(job)
        history.sample(job, now)
        return history

    def ran(self, job: Job | None, node: str, group: RunGroup, now: float) -> None:
        """Take runs that a node tells of. `job` is their job, `None` if that is over.

        Where nodes tell of very many it is a sample, but the slowest of a job, and the first
        that failed, are always among them.
        """
        figures, stride = group.figures, self._stride
        history = self._jobs.get(group.job)
        bound = 0.0 if history is None else history.runs.bound
        takes_failed = history is not None and len(history.runs.failed) < MOST_FAILED
        for at in range(0, len(figures) - RUN_FIGURES + 1, RUN_FIGURES):
            self._told += 1
            chosen = self._told % stride == 0
            # Here and not below: this is all that most runs of a large fleet may cost.
            is_special = (takes_failed and figures[at + 10]) or figures[
                at + 4
            ] > 1e6 * bound * figures[at + 1]
            if not (chosen or is_special):
                continue
            first, count, slot, ago, took, cpu, peak, nbytes, waited, given, failed = figures[
                at : at + RUN_FIGURES
            ]
            self.seq += 1
            begun = now - ago / 1e6
            known = None if job is None else job.submitted
            run = Run(
                self.seq,
                group.job,
                node,
                slot,
                group.attempt,
                first,
                max(1, count),
                begun,
                took / 1e6,
                cpu / 1e6,
                peak,
                nbytes,
                known if history is None else history.arrivals.of(first),
                begun - (waited - 1) / 1e6 if waited else None,
                given,
                failed,
            )
            self.recent.append(run)
            if history is None:
                if job is None or (job.total < 2 and run.seconds < LONE_SECONDS):
                    continue
                history = self._of(job)
            if chosen:
                history.runs.add(run)
            else:
                history.runs.add_special(run)

    def failed(
        self,
        job: Job,
        attempt: tuple[int, int],
        node: str,
        what: str,
        failure: Failure | Payload,
        now: float,
    ) -> None:
        """Take an attempt (task and number) that did not end well, and its failure."""
        failures = self._of(job).failures
        looked = None
        if failures.looks(now):
            looked = failure if isinstance(failure, Failure) else Failure.decode(failure)
        failures.add(what, attempt, node, now, looked)

    def since(self, seq: int, most: int) -> list[Run]:
        """Return runs behind number `seq`, at most `most`: evenly chosen; from the start, the latest."""
        behind = self.seq - seq
        if behind <= 0:
            return []
        fresh = list(islice(reversed(self.recent), min(behind, len(self.recent))))
        step = -(-len(fresh) // most) if seq else 1
        return fresh[: most * step : step][::-1]

    def _of(self, job: Job) -> JobHistory:
        history = self._jobs.get(job.id)
        if history is None:
            history = self._jobs[job.id] = JobHistory(job.submitted)
            if len(self._jobs) > MOST_JOBS:
                self._jobs.popitem(last=False)
        return history
