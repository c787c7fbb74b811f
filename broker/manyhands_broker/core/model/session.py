"""A client's session as the scheduler sees it."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from manyhands_broker.core.model.identity import ANYBODY, Identity
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.quotas import Ledger
from manyhands_broker.core.model.task_input import Sources
from manyhands_broker.core.model.unread import Unread
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol.messages import (
    Dependency,
    InputGroup,
    JobStanding,
    ResultGroup,
    TaskStanding,
)

#: Payload bytes and payload frames in one message of results; a single group is never split.
#: Well below the wire's limits for a header and for frames, which count for the message as a whole.
MESSAGE_BYTES = 8 << 20
MESSAGE_FRAMES = 16_384
#: Groups in one such message, likewise.
MESSAGE_GROUPS = 32_768
_INLINE = {bytes}
#: What a result costs in memory beyond its payload.
RESULT_OVERHEAD = 100
#: Jobs that a session remembers after their end, so that a late copy of a submission is known.
RETIRED_JOBS = 10_000


class Session:
    """A client's presence, with its jobs, over however many links."""

    __slots__ = (
        "answers",
        "assigned",
        "cap",
        "confirmed",
        "dependencies",
        "fresh",
        "heard",
        "held_results",
        "hold_until",
        "host_id",
        "info",
        "inputs",
        "jobs",
        "ledger",
        "limit",
        "lost_at",
        "name",
        "parked",
        "peer",
        "printed",
        "result_limit",
        "retired",
        "seq",
        "sources",
        "standing_parts",
        "standings",
        "stored",
        "token",
        "unacked",
        "unacked_bytes",
        "unfinished",
        "unfinished_bytes",
        "unheard",
        "vtime",
        "who",
    )

    def __init__(
        self,
        token: bytes,
        peer: bytes | None,
        result_limit: int,
        now: float,
        ledger: Ledger | None = None,
        *,
        stored: bool = False,
    ) -> None:
        """Open a session. `stored`: durable jobs run on its account, and it has no link."""
        self.token = token
        self.peer = peer
        #: What its key has here; a session without one has its own.
        self.ledger = ledger or Ledger()
        self.stored = stored
        self.name = ""
        #: By whose key it came.
        self.who: Identity = ANYBODY
        self.info: dict[str, Any] = {}
        #: Equal to a node's if that can borrow this session's stored values; empty if none can.
        self.host_id = ""
        #: What tasks of its next submission refer to.
        self.inputs: list[InputGroup] = []
        #: Which of these tasks wait for which; and the results that tasks here have for inputs.
        self.dependencies: list[Dependency] = []
        self.sources: Sources = {}
        self.jobs: dict[str, Job] = {}
        #: What jobs have behind them that it is about to submit, and how many parts that has.
        self.standings: dict[str, tuple[JobStanding, list[TaskStanding]]] = {}
        self.standing_parts = 0
        #: Tasks that may run at once, as the client asked; 0 is no limit.
        self.limit = 0
        #: The same where it is below the fleet's slots, else 0. It bounds what is `active`: then no task
        #: of the session waits on a node for its slot.
        self.cap = 0
        self.assigned = 0
        #: Of the assigned tasks, those that have run and whose results their nodes hold.
        self.held_results = 0
        #: Tasks that have not ended, and the bytes of their payloads.
        self.unfinished = 0
        self.unfinished_bytes = 0
        #: Results since the last message; messages sent and not acknowledged: (seq, groups, bytes).
        self.fresh: list[ResultGroup] = []
        self.unacked: deque[tuple[int, list[ResultGroup], int]] = deque()
        self.unacked_bytes = 0
        self.result_limit = result_limit
        #: Answers to queries, and printed lines, that the client may not have read yet.
        self.answers = Unread(self.ledger, "answer_bytes")
        self.printed = Unread(self.ledger, "printed_bytes")
        #: Jobs that are over, with their number of tasks: a submission may come twice.
        self.retired: OrderedDict[str, int] = OrderedDict()
        self.seq = 0
        #: Work received so far, in seconds: the fair share gives to the session with the least.
        self.vtime = 0.0
        #: Whether the ready queue passes this session over until it is told otherwise.
        self.parked = False
        self.heard = now
        #: A node waits for its values; the client has said nothing since.
        self.unheard = False
        #: Whether the client has said anything since its welcome, so that it must have had that.
        self.confirmed = False
        #: Its tasks wait until then: it is back from before the broker's start, and so may nodes be.
        #: As `Timers.listened` counts.
        self.hold_until = 0.0
        self.lost_at: float | None = None

    @property
    def account(self) -> str:
        """Whose its jobs are: those of one key, however many sessions it opens."""
        return self.who.account(self.name)

    def retire(self, job: Job) -> None:
        """Forget all but the number of tasks of a job that is over."""
        self.jobs.pop(job.id, None)
        self.retired[job.id] = job.total
        if len(self.retired) > RETIRED_JOBS:
            self.retired.popitem(last=False)

    def fit(self, slots: int) -> None:
        """Fit the limit to a fleet of `slots` slots."""
        self.cap = self.limit if self.limit < slots else 0

    @property
    def may_run(self) -> bool:
        """Whether more of its tasks may be given out now."""
        return not (self.cap and self.active >= self.cap) and self.takes

    @property
    def active(self) -> int:
        """How many of its tasks wait or run on nodes."""
        return self.assigned - self.held_results

    @property
    def takes(self) -> bool:
        """Whether its client takes what it is sent, so that there may be more."""
        if self.ledger.full and self.unacked_bytes >= self.ledger.result_share:
            return False
        return self.unacked_bytes < self.result_limit

    def took(self, tasks: int, nbytes: int) -> None:
        """Count new tasks, or with negative numbers those that have ended or gone elsewhere."""
        self.unfinished += tasks
        self.unfinished_bytes += nbytes
        ledger = self.ledger
        ledger.bytes += nbytes
        if self.stored:
            ledger.stored += tasks
        else:
            ledger.tasks += tasks

    def charge(self, seconds: float) -> None:
        """Count work of `seconds` that the session was given."""
        self.vtime += seconds
        self.ledger.vtime += seconds

    def next_message(self) -> tuple[int, list[ResultGroup]] | None:
        """Number fresh results as a message, to be acknowledged; return `None` if there are none."""
        if not self.fresh:
            return None
        self.seq += 1
        size = frames = count = 0
        for group in self.fresh:
            size += total(group.bodies) + RESULT_OVERHEAD * len(group.indices)
            if set(map(type, group.bodies)) != _INLINE:
                frames += sum(len(body) for body in group.bodies if isinstance(body, tuple))
            count += 1
            if size >= MESSAGE_BYTES or frames >= MESSAGE_FRAMES or count >= MESSAGE_GROUPS:
                break
        groups, self.fresh = self.fresh[:count], self.fresh[count:]
        self.unacked.append((self.seq, groups, size))
        self.unacked_bytes += size
        self.ledger.unacked += size
        return self.seq, groups

    def acknowledge(self, seq: int) -> None:
        """Let go of every message up to `seq`."""
        while self.unacked and self.unacked[0][0] <= seq:
            size = self.unacked.popleft()[2]
            self.unacked_bytes -= size
            self.ledger.unacked -= size

    def heard_of(self, ping: int) -> None:
        """Count what was sent before a ping as read: the client has answered it."""
        self.answers.heard_of(ping)
        self.printed.heard_of(ping)

    def unlinked(self) -> None:
        """Count nothing that is not acknowledged as unread: it is lost with the link."""
        self.answers.forget()
        self.printed.forget()

    def leave(self) -> None:
        """Count nothing any more of what the session was sent: it is over."""
        self.acknowledge(self.seq)
        self.unlinked()
        self.ledger.closed()
