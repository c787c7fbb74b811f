"""What a node knows of each job: its rules, and the results of the jobs that it comes after.

The broker says either once, when it first gives tasks of a job on a link, and may rely on it later.
So both stay until it says that the job is over, not only while tasks of the job are here. With each
welcome it begins anew: then they stay only for tasks that are here. Results of parents can be large.
Beyond `PARENT_BYTES` those used longest ago are dropped, of jobs that have no task here. If such a job
comes again after all, the node says hello again, and is told anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from hashlib import blake2b

from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.messages import AssignGroup, Given, ResultGroup
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.model import NO_RULES, Parents, Rules

#: Results of parents kept for jobs that have no task here.
PARENT_BYTES = 512 << 20


@dataclass(slots=True)
class _Inheritance:
    """Results of parents as they came, and in the form that children get."""

    groups: list[ResultGroup]
    nbytes: int
    parents: Parents | None = field(default=None)


class JobRules:
    """Rules and inherited results by job.

    Args:
        in_use: whether the node holds a task of a job.
        parent_bytes: see `PARENT_BYTES`.
    """

    def __init__(self, in_use: Callable[[str], bool], parent_bytes: int = PARENT_BYTES) -> None:
        self._in_use = in_use
        self._limit = parent_bytes
        self._rules: dict[str, Rules] = {}
        self._inherited: OrderedDict[str, _Inheritance] = OrderedDict()
        self._dropped: set[str] = set()
        #: Jobs that are forgotten as soon as no task of them is here.
        self._leaving: set[str] = set()
        self._count = 0

    def rules(self, group: AssignGroup) -> Rules:
        """The rules of an assignment's job, which come with its first tasks.

        Raises:
            ProtocolError: options that this node does not know.
        """
        if group.options is not None:
            self._leaving.discard(group.job)
        if group.options:
            rules = Rules.of(JobOptions.from_map(group.options))
            if rules != NO_RULES:
                self._rules[group.job] = rules
        return self._rules.get(group.job, NO_RULES)

    def fetch_key(self, job: str) -> str:
        """The public key with which a job's client comes for its results; empty: it does not."""
        return self._rules.get(job, NO_RULES).fetch_key

    def has_prefix(self, job: str) -> bool:
        """Whether each line that a job's tasks print is shown with its task."""
        return self._rules.get(job, NO_RULES).prefix

    def given(self, message: Given) -> None:
        """Results of a job's parents have come."""
        nbytes = sum(total(group.bodies) for group in message.results)
        self._inherited[message.job] = _Inheritance(message.results, nbytes)
        self._inherited.move_to_end(message.job)
        self._dropped.discard(message.job)
        self._leaving.discard(message.job)
        self._trim()

    def _trim(self) -> None:
        total = sum(entry.nbytes for entry in self._inherited.values())
        for job in list(self._inherited)[:-1]:
            if total <= self._limit:
                return
            if not self._in_use(job):
                total -= self._inherited.pop(job).nbytes
                self._dropped.add(job)

    def is_missing(self, job: str) -> bool:
        """Whether results that the broker has sent for a job are not here any more."""
        return job in self._dropped

    def parents(self, job: str, function: bytes, rules: Rules) -> Parents | None:
        """What the tasks of a job are called with before their own arguments; None for nothing."""
        if not rules.after:
            return None
        # Where no parent has a result, there was nothing to send.
        entry = self._inherited.setdefault(job, _Inheritance([], 0))
        self._inherited.move_to_end(job)
        if entry.parents is None:
            lists = [_in_order(entry.groups, parent) for parent in rules.after]
            self._count += 1
            name = blake2b(function + job.encode() + b"%d" % self._count, digest_size=16)
            entry.parents = Parents(name.digest(), lists, entry.nbytes)
        return entry.parents

    def welcome(self, used: Collection[str]) -> None:
        """The broker tells of each job anew. `used`: the jobs that have tasks here."""
        self._dropped.clear()
        self._leaving.clear()
        self.over(self._rules.keys() | self._inherited.keys(), used)

    def over(self, jobs: Collection[str], used: Collection[str]) -> None:
        """No task follows of these jobs. `used`: the jobs that have tasks here."""
        self._dropped.difference_update(jobs)
        self._leaving.update(jobs)
        for job in self._leaving.difference(used):
            self._leaving.discard(job)
            self._rules.pop(job, None)
            self._inherited.pop(job, None)


def _in_order(groups: list[ResultGroup], parent: str) -> list[Payload]:
    results = {
        index: body
        for group in groups
        if group.job == parent
        for index, status, body in zip(group.indices, group.statuses, group.bodies, strict=True)
        if status == Status.OK
    }
    return [results[index] for index in sorted(results)]
