"""What must be true of a run, checked like a queue in Jepsen.

*Lost* is what was acknowledged and never delivered; *unexpected* what was delivered and never
submitted. Runs of a task are counted, and may be many; accepted results must be one. Before
judging, everything is healed and the queue is drained.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from manyhands_broker.core import Core
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import labels
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import ENVIRONMENT_FAILED, Failure
from manyhands_shared.protocol.status import Status
from simulation.checks.remains import remains_of_broker, remains_of_node, remains_of_session
from simulation.parts.client import is_rejection

if TYPE_CHECKING:
    from simulation.parts.client import Client
    from simulation.parts.node import NodeHost
    from simulation.plan import JobPlan
    from simulation.world import World

Task = tuple[str, int]
#: What a task ends as by the word of the node that ran it.
_TOLD = (Status.OK, Status.RAISED)


class Checker:
    """Watches a run from outside."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: What tasks have for inputs; and results of these that their user has dropped.
        self.inputs: dict[Task, tuple[Task, ...]] = {}
        self.dropped: set[Task] = set()
        #: Tasks that a living client waits for, and what it got.
        self._wanted: dict[Client, set[Task]] = defaultdict(set)
        self._got: dict[Client, dict[Task, int]] = defaultdict(dict)
        self._open: dict[Client, set[str]] = defaultdict(set)
        #: How many tasks of a job its session has numbered.
        self._numbered: Counter[tuple[Client, str]] = Counter()
        #: Jobs that a client has closed, and those that are over, as its session says.
        self._closed: set[tuple[Client, str]] = set()
        self._over: set[tuple[Client, str]] = set()
        #: Durable tasks whose acceptance a client heard of: job → how many.
        self.promised: dict[str, int] = {}
        #: Durable jobs of dead clients that another client has cancelled.
        self._abandoned: set[str] = set()
        #: Every result of a durable job that anybody was shown: always the same one.
        self._shown: dict[Task, tuple[int, int]] = {}
        self.reader: Client | None = None
        self._runs: Counter[Task] = Counter()
        self._raised: Counter[Task] = Counter()
        #: The labels of environments that a node could not make.
        self._unmade: set[str] = set()
        #: The attempt in which the present broker has given a task out last.
        self._attempts: dict[Task, int] = {}
        #: What it has told of a task: attempt and status, always the same.
        self._answers: dict[Task, tuple[int, int]] = {}

    # What is seen

    def planned(self, client: Client, job: JobPlan) -> None:
        """A client is going to open a job."""
        self._open[client].add(job.id)
        self._wanted[client]  # an entry: it is waited for

    def submitted(self, client: Client, job: JobPlan, count: int) -> None:
        """A client has appended tasks to a job."""
        self._wanted[client].update(
            (job.id, index) for index in range(job.submitted, job.submitted + count)
        )
        job.submitted += count

    def closed(self, client: Client, job: JobPlan) -> None:
        """A client adds no more to a job."""
        self._open[client].discard(job.id)
        if client.alive:
            self._closed.add((client, job.id))

    def numbered(self, client: Client, job: str, first: int, count: int) -> None:
        """A session has numbered tasks."""
        assert first == self._numbered[client, job], f"{job}: {first} is not the next number"
        self._numbered[client, job] += count

    def job_over(self, client: Client, job: str) -> None:
        """A session says that nothing more comes of a job."""
        doomed = self._world.plan.jobs[job].doomed
        assert doomed or (client, job) in self._closed, f"{job} is over, and open"
        assert (client, job) not in self._over, f"{job} is over twice"
        self._over.add((client, job))

    def turned_down(self, client: Client, job: str, first: int) -> None:
        """A session takes no more tasks of a job, from `first` on."""
        self._wanted[client] = {
            task for task in self._wanted[client] if task[0] != job or task[1] < first
        }

    def acknowledged(self, job: str, count: int) -> None:
        """A client heard that `count` tasks of a durable job are accepted."""
        self.promised[job] = max(self.promised.get(job, 0), count)

    def environment_failed(self, host: NodeHost, environment: bytes) -> None:
        """A node cannot make an environment."""
        self._world.tell(host, "cannot make environment {}", environment.hex()[:8])
        self._unmade.add(labels.environment(environment))

    def executed(self, host: NodeHost, job: str, index: int, attempt: int, outcome: str) -> None:
        """A child runs a task."""
        task = (job, index)
        self._world.tell(host, "runs {}/{} in attempt {}: it {}", job, index, attempt, outcome)
        self._runs[task] += 1
        self._raised[task] += outcome == "raises"
        plan = self._world.plan.jobs[job]
        assert index < plan.submitted, f"{job}/{index} runs and was never submitted"
        for parent in plan.options.after:
            state = self._world.broker.disk.states.get(parent, "open")
            assert state == "done", f"{job}/{index} runs and comes after {parent}, which is {state}"
        if plan.options.at_most_once:
            assert self._runs[task] == 1, f"{job}/{index} may run once and runs again"

    def broker_started(self, core: Core) -> None:
        """A new life of the broker: attempts of attached jobs are counted anew."""
        self._attempts.clear()
        self._answers.clear()

    def broker_said(self, peer: bytes, message: m.Message) -> None:
        """The broker sends something."""
        if isinstance(message, m.ClientWelcome) and not message.resumed:
            self._forgotten(peer)
        elif isinstance(message, m.Assign):
            for group in message.groups:
                for index in group.indices:
                    task = (group.job, index)
                    last = self._attempts.get(task, 0)
                    assert group.attempt > last, (
                        f"{task} is given out in attempt {group.attempt} again"
                    )
                    self._attempts[task] = group.attempt
        elif isinstance(message, m.Results):
            for told in message.groups:
                for index, status in zip(told.indices, told.statuses, strict=True):
                    task = (told.job, index)
                    last = self._attempts.get(task, 0)
                    if status in _TOLD and task not in self._shown:
                        twice = self._world.plan.jobs[told.job].options.speculative
                        lowest = last - 1 if twice else last
                        assert told.attempt >= lowest, f"{task}: a result of a stale attempt"
                    if status != Status.HELD:
                        answer = (told.attempt, status)
                        known = self._answers.setdefault(task, answer)
                        assert known == answer, f"{task} is answered twice: {known} and {answer}"

    def _forgotten(self, peer: bytes) -> None:
        """Attempts of a client's attached jobs begin anew: its session was forgotten."""
        link = self._world.broker.links.get(peer)
        for task in list(self._attempts):
            job = self._world.plan.jobs[task[0]]
            mine = link is not None and self._world.clients[job.client] is link.near
            if mine and not job.durable:
                del self._attempts[task]
                self._answers.pop(task, None)

    def delivered(
        self, client: Client, job: str, indices: list[int], statuses: bytes, bodies: list[Payload]
    ) -> None:
        """A session hands results to its user."""
        for index, status, body in zip(indices, statuses, bodies, strict=True):
            task = (job, index)
            self._world.tell(client, "gets {}/{}: {}", job, index, Status(status).name)
            known = index < self._world.plan.jobs[job].submitted
            asked = known if client is self.reader else task in self._wanted[client]
            assert asked, f"{job}/{index} was never submitted"
            assert task not in self._got[client], f"{job}/{index} is delivered twice"
            assert (client, job) not in self._over, f"{job}/{index} comes when the job is over"
            self._got[client][task] = status
            self._judge(task, status, body)

    def read(self, client: Client, group: m.ResultGroup) -> None:
        """Results of a durable job came to a client that is attached to it."""
        for index, status, body in zip(group.indices, group.statuses, group.bodies, strict=True):
            task = (group.job, index)
            shown = (status, group.attempt)
            assert self._shown.setdefault(task, shown) == shown, f"{task} has two results"
            plan = self._world.plan.jobs[group.job]
            assert index < plan.submitted, f"{group.job}/{index} was never submitted"
            self._judge(task, status, body)

    # What must be

    def _judge(self, task: Task, status: int, body: Payload) -> None:
        """Whether a task may end like this."""
        job, index = task
        plan = self._world.plan.jobs[job]
        options = plan.options
        name = f"{job}/{index} ends as {Status(status).name}"
        if status not in (Status.OK, Status.CANCELLED) and Failure.decode(body).note:
            assert task in self.inputs, f"{name} as an input that it does not have"
            assert "not known any more" not in Failure.decode(body).message, f"{name}: input lost"
        elif status == Status.OK and task in self.dropped and body == b"":
            assert self._runs[task], f"{name} and never ran"
        elif status == Status.OK:
            assert body == f"{job}/{index}".encode(), f"{name} with the result of another"
            assert self._runs[task], f"{name} and never ran"
        elif status == Status.RAISED:
            cancelled = plan.doomed or index in plan.cancelled or job in self._abandoned
            if is_rejection(body):
                full = self._world.broker.disk.was_full
                assert plan.durable, f"{name}: an attached job is never turned down"
                assert full or plan.doomed, f"{name}: turned down, and there was room"
                return
            if Failure.decode(body).type == ENVIRONMENT_FAILED:
                assert options.requirements, f"{name} for an environment that it does not need"
                return
            # The broker counts what a node has failed for lack of the environment, too.
            enough = self._raised[task] > options.retries or self._unmade & {*options.needs}
            assert enough or cancelled or options.deadline, f"{name} and has retries left"
        elif status == Status.CRASHED:
            limit = self._world.plan.limits.crash_limit
            story = Failure.decode(body).story
            assert options.at_most_once or len(story) >= limit, f"{name} after {story}"
        elif status == Status.CANCELLED:
            wanted = self._is_cancelled(task)
            # Stopped when its deadline came, by a broker that died before it wrote that down, and
            # then the wall clock was turned back.
            back = options.deadline and options.durable and self._world.broker.turned_back
            assert wanted or back or self._comes_too_late(plan), f"{name} unasked"
        elif status == Status.LOST:
            assert options.at_most_once, f"{name} and may run again"
            plans = self._world.plan
            harm = plans.faults or any(job.dies for job in plans.jobs.values())
            assert harm, f"{name} and nothing went wrong"
        else:
            assert status == Status.TIMED_OUT, name
            assert options.deadline, f"{name} without a deadline"

    def _is_cancelled(self, task: Task) -> bool:
        """Whether a task was to be cancelled, or one whose result it needs, directly or not."""
        seen, left = {task}, [task]
        while left:
            job, index = left.pop()
            plan = self._world.plan.jobs[job]
            if plan.doomed or index in plan.cancelled or job in self._abandoned:
                return True
            fresh = set(self.inputs.get((job, index), ())) - seen
            seen |= fresh
            left += fresh
        return False

    def _comes_too_late(self, plan: JobPlan) -> bool:
        """Whether a job that it comes after has ended, and not well."""
        states = self._world.broker.disk.states
        return any(states.get(parent, "done") != "done" for parent in plan.options.after)

    def abandon(self) -> list[str]:
        """Durable jobs that dead clients have left open: another client is going to cancel them."""
        world = self._world
        # Also those that the broker still has to read: a slow disk keeps it from its clients.
        left = [
            job_id
            for job_id, job in world.plan.jobs.items()
            if job.options.durable
            and not world.clients[job.client].left_in_peace
            and job_id not in world.broker.disk.states
        ]
        self._abandoned.update(left)
        return left

    def settled(self) -> bool:
        """Whether every living client has all it waits for, and nothing more to say."""
        return (
            all(
                len(self._got[client]) == len(wanted)
                and not self._open[client]
                and not remains_of_session(client.session)
                for client, wanted in self._wanted.items()
                if client.alive
            )
            and not self._unsaid()
        )

    def judge_clients(self) -> None:
        """Nothing that a living client submitted is lost."""
        for client, wanted in self._wanted.items():
            if client.alive:
                lost = sorted(wanted - self._got[client].keys())
                assert not lost, f"{client} never gets {lost[:10]} ({len(lost)} tasks)"
        unsaid = self._unsaid()
        assert not unsaid, f"nothing says that {sorted(unsaid)[:10]} are over"

    def _unsaid(self) -> list[str]:
        """Closed jobs of living clients that no session has called over."""
        return [job for client, job in self._closed - self._over if client.alive]

    def _owed(self) -> set[Task]:
        return {(job, index) for job, count in self.promised.items() for index in range(count)}

    def _unread(self) -> set[Task]:
        """What was promised and not shown to the reader, which came and asked afterwards."""
        reader = self.reader
        return self._owed() - (self._got[reader].keys() if reader is not None else set())

    def all_read(self) -> bool:
        """Whether the reader has been shown all that was promised."""
        asks = self.reader is not None and bool(remains_of_session(self.reader.session))
        return not (asks or self._unread() or self._left_open())

    def _left_open(self) -> list[str]:
        """Jobs that the broker still has, though their clients are done with them."""
        world = self._world
        return [
            job.id
            for job in (world.broker.core.state.jobs.values() if world.broker.alive else ())
            if job.options.durable or world.clients[world.plan.jobs[job.id].client].alive
        ]

    def judge_reader(self) -> None:
        """Nothing that was accepted as durable is lost."""
        lost = sorted(self._unread())
        assert not lost, f"accepted and lost: {lost[:10]} ({len(lost)} tasks)"
        assert not self._left_open(), f"no session closes {self._left_open()}"
        twice = sorted(task for task, count in self._world.broker.disk.ended.items() if count > 1)
        assert not twice, f"ended twice in the journal: {twice[:10]}"

    def judge_remains(self) -> None:
        """No part keeps what is over."""
        world = self._world
        world.broker.core.validate()
        for node in world.nodes:
            if node.alive:
                node.core.validate()
        found = self.remains()
        assert not found, f"left over: {'; '.join(found)}"

    def remains(self) -> list[str]:
        """What a client keeps."""
        world = self._world
        found = remains_of_broker(world.broker.core)
        for node in world.nodes:
            if node.alive:
                found += [f"{node}: {what}" for what in remains_of_node(node.core)]
        for client in [*world.clients, *([self.reader] if self.reader is not None else [])]:
            if client.left_in_peace:
                found += [f"{client}: {what}" for what in remains_of_session(client.session)]
        return found
