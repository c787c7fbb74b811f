"""What a run is to be: the fleet, the work, and what goes wrong when. All drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from manyhands_broker.core import Limits
from manyhands_shared.protocol import labels, requirements
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.messages import Function
from simulation.faults import FAULTS


@dataclass
class JobPlan:
    """One job: its options, how its tasks come and how they behave."""

    id: str
    client: int
    options: JobOptions
    function: Function
    #: (when, how many tasks): the first opens the job.
    arrivals: list[tuple[float, int]]
    #: When it is closed; when what is cancelled: an index, or None for the whole job.
    closes: float
    cancels: list[tuple[float, list[int] | None]]
    seconds: tuple[float, ...]
    raises: float
    dies: float
    #: A durable job that must be accepted before this one is submitted.
    after: str = ""
    #: Tasks appended so far.
    submitted: int = 0
    #: What was asked to be cancelled.
    cancelled: set[int] = field(default_factory=set)
    doomed: bool = False
    #: The modules that it brings.
    code: Function | None = None
    #: How many of its tasks wait for tasks meanwhile.
    lends: float = 0.0

    @property
    def durable(self) -> bool:
        """Whether the journal holds it."""
        return self.options.durable

    def behave(self, rng: Random) -> tuple[float, str]:
        """Seconds that a run takes, and how it ends: ``returns``, ``raises``, ``dies``."""
        seconds = rng.choice(self.seconds)
        draw = rng.random()
        if draw < self.dies:
            return seconds, "dies"
        return seconds, "raises" if draw < self.dies + self.raises else "returns"


@dataclass
class Plan:
    """Everything that a seed decides beforehand."""

    limits: Limits
    slots: list[int]
    clients: list[int]
    jobs: dict[str, JobPlan]
    #: When the faults end, and which there are: (when, kind).
    heal: float
    faults: list[tuple[float, str]]


def draw(rng: Random, twice: Random) -> Plan:
    """A plan. `twice` decides on what came later than the seeds: nothing else of a seed changes."""
    lease = rng.choice((2.0, 4.0, 8.0))
    limits = Limits(
        lease=lease,
        link_grace=min(2.0, lease / 2),
        session_grace=rng.choice((4.0, 15.0)),
        ping_interval=rng.choice((1.0, 3.0)),
        window_tasks=rng.choice((4, 50, 10_000)),
        result_bytes=rng.choice((40, 1 << 20)),
        crash_limit=rng.choice((1, 2, 2, 3)),
        resident_bytes=rng.choice((0, 20, 1 << 20)),
        page_bytes=rng.choice((10, 1 << 20)),
        batch_bytes=rng.choice((16, 1 << 20)),
        rejoin_wait=rng.choice((0.1, 0.5)),
    )
    heal = rng.choice((1.0, 3.0, 9.0))
    clients = [rng.choice((0, 0, 0, 2)) for _ in range(rng.choice((1, 1, 2)))]
    jobs: dict[str, JobPlan] = {}
    durable = rng.choice((0.0, 0.4, 0.9))
    for number in range(rng.choice((1, 2, 3, 5))):
        job = _job(rng, f"j{number}", len(clients), heal, durable, jobs)
        jobs[job.id] = job
    count = rng.choice((0, 1, 3, 3, 6, 10))
    kinds = rng.sample(sorted(FAULTS), rng.choice((1, 3, len(FAULTS))))
    weights = [FAULTS[kind][0] for kind in kinds]
    faults = sorted((rng.uniform(0.0, heal), rng.choices(kinds, weights)[0]) for _ in range(count))
    slots = [rng.choice((1, 2, 3)) for _ in range(rng.choice((1, 2, 3)))]
    plan = Plan(limits, slots, clients, jobs, heal, faults)
    plan = _with_loans(_with_code(_with_speculation(plan, twice), twice), twice)
    return _with_environments(plan, twice)


def _with_code(plan: Plan, rng: Random) -> Plan:
    share = rng.choice((0.0, 0.0, 0.0, 0.5, 1.0))
    for job in plan.jobs.values():
        if rng.random() < share:
            digest = bytes([0xC0 + rng.randrange(2)]) * 16
            job.code = Function(digest, "modules", [digest.hex().encode()])
            job.options = replace(job.options, bundle=digest.hex())
    return plan


def _with_loans(plan: Plan, rng: Random) -> Plan:
    if rng.random() < 0.3:
        for job in plan.jobs.values():
            job.lends = rng.choice((0.0, 0.3, 1.0))
            if job.lends and not job.options.resources and rng.random() < 0.5:
                job.options = replace(job.options, resources={rng.choice(("cpus", "gpu")): 1.0})
    return plan


def _with_environments(plan: Plan, rng: Random) -> Plan:
    share = rng.choice((0.0, 0.0, 0.0, 0.5, 1.0))
    for job in plan.jobs.values():
        if rng.random() < share:
            lines = (rng.choice("ab"),)
            label = labels.environment(requirements.digest(lines))
            needs = (*job.options.needs, label)
            job.options = replace(job.options, requirements=lines, needs=needs)
    return plan


def _with_speculation(plan: Plan, rng: Random) -> Plan:
    plan.limits = replace(
        plan.limits,
        speculate_floor=rng.choice((0.005, 0.05, 0.5)),
        speculate_share=rng.choice((0.0, 0.0, 0.5, 0.75)),
        speculate_again=0.05,
    )
    share = rng.choice((0.0, 0.5, 0.8))
    for job in plan.jobs.values():
        if not job.options.at_most_once and rng.random() < share:
            job.options = replace(job.options, speculative=True)
    return plan


def _job(
    rng: Random, name: str, clients: int, heal: float, durable: float, others: dict[str, JobPlan]
) -> JobPlan:
    client = rng.randrange(clients)
    is_durable = rng.random() < durable
    parents = [job.id for job in others.values() if job.durable and job.client == client]
    after = rng.choice(parents) if is_durable and parents and rng.random() < 0.3 else ""
    options: dict[str, Any] = {"durable": is_durable, "direct": not is_durable}
    if after:
        options["after"] = (after,)
    if rng.random() < 0.3:
        options["retries"] = rng.choice((1, 3))
        options["retry_delay"] = rng.choice((0.01, 0.5))
    elif rng.random() < 0.3:
        options["at_most_once"] = True
    if rng.random() < 0.1:
        options["deadline"] = rng.choice((0.2, 3.0))
    if rng.random() < 0.2:
        options["priority"] = rng.choice((-1, 1))
    if rng.random() < 0.15:
        options["resources"] = {rng.choice(("cpus", "gpu")): 1.0}
    if rng.random() < 0.1:
        options["tasks_per_child"] = rng.choice((1, 3))
    begins = rng.uniform(0.0, heal / 2)
    arrivals = [(begins, rng.choice((0, 1, 1, 4, 20)))]
    while rng.random() < 0.4:
        arrivals.append((rng.uniform(begins, heal), rng.choice((1, 3, 10))))
    arrivals.sort()
    total = sum(count for _, count in arrivals)
    cancels: list[tuple[float, list[int] | None]] = []
    if rng.random() < 0.2:
        wanted = None if rng.random() < 0.3 else [i for i in range(total) if rng.random() < 0.4]
        cancels.append((rng.uniform(begins, heal + 1), wanted))
    digest = bytes([rng.randrange(3)]) * 16
    return JobPlan(
        name,
        client,
        JobOptions(**options),
        Function(digest, "f", [b"code"]),
        arrivals,
        rng.uniform(arrivals[-1][0], heal + 1),
        cancels,
        rng.choice(((0.0002,), (0.0002, 0.02), (0.02, 0.3), (0.3, 2.0))),
        rng.choice((0.0, 0.0, 0.3)),
        rng.choice((0.0, 0.0, 0.0, 0.1)),
        after,
    )
