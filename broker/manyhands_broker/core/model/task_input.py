"""Results of tasks that other tasks of a session have for inputs, and the tasks that wait for them.

A `Source` is the result of one task. It is there from when the first task that needs it is submitted
until the last one of these has ended. It is

========= =====================================================================================
MISSING   not here: its task has not ended, or the client is asked for it
HERE      a payload, kept here
HELD      on the node that made it, in a segment which the ticket names
FAILED    its task has ended in another way, and so do those that need it
========= =====================================================================================

A task waits for one of its inputs at a time. So an input that comes costs each task behind it one step,
and a task walks along its inputs once, however many they are. HELD becomes MISSING when the node is
lost. That is noticed when the task is given out, and it waits once more.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING

from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.protocol.status import Status

if TYPE_CHECKING:
    from manyhands_broker.core.model.job import Job
    from manyhands_broker.core.model.node import Node
    from manyhands_broker.core.model.session import Session
    from manyhands_broker.core.model.stored_value import StoredValue

#: Inputs by job, then by task.
Sources = dict[str, dict[int, "Source"]]


class Standing(Enum):
    """Where a result is."""

    MISSING = "missing"
    HERE = "here"
    HELD = "held"
    FAILED = "failed"


class Source:
    """The result of a task, as those that have it for an input see it."""

    __slots__ = (
        "_session",
        "body",
        "followers",
        "index",
        "item",
        "job_id",
        "key",
        "node",
        "standing",
        "status",
        "users",
    )

    def __init__(self, session: Session, job_id: str, index: int) -> None:
        self._session = session
        self.job_id = job_id
        self.index = index
        self.standing = Standing.MISSING
        self.status = Status.OK
        #: The result, the ticket of a held one, or a failure.
        self.body: Payload = b""
        #: Of a held one: the segment's key, the node, and the value as placing sees it.
        self.key = b""
        self.node: Node | None = None
        self.item: StoredValue[Node] | None = None
        #: Tasks that need it and have not ended.
        self.users = 0
        #: Those of them that wait for it.
        self.followers: OrderedDict[tuple[Job, int], None] = OrderedDict()

    @property
    def session(self) -> Session:
        """Whose it is."""
        return self._session

    @property
    def is_there(self) -> bool:
        """Whether a task that needs it may run."""
        return self.standing in (Standing.HERE, Standing.HELD)

    def keep(self, body: Payload) -> None:
        """Its task has returned this."""
        self.lose()
        self.standing, self.body = Standing.HERE, body
        self._session.took(0, nbytes(body))

    def hold(self, ticket: Payload, key: bytes, node: Node, item: StoredValue[Node]) -> None:
        """A node holds it."""
        self.lose()
        self.standing, self.body = Standing.HELD, ticket
        self.key, self.node, self.item = key, node, item
        item.tasks += 1

    def fail(self, status: Status, body: Payload) -> None:
        """Its task has ended without a result."""
        self.lose()
        self.standing, self.status, self.body = Standing.FAILED, status, body

    def lose(self) -> None:
        """It is not here any more."""
        if self.standing is Standing.HERE:
            self._session.took(0, -nbytes(self.body))
        item, self.item = self.item, None
        self.standing, self.body, self.node, self.key = Standing.MISSING, b"", None, b""
        if item is not None:
            item.release()

    def release(self) -> None:
        """Count a task that needed it and has ended; forget it with the last one."""
        self.users -= 1
        if not self.users:
            self.lose()
            shelf = self._session.sources[self.job_id]
            del shelf[self.index]
            if not shelf:
                del self._session.sources[self.job_id]


class Inputs:
    """What one task needs, in the order of its inputs, and for which of these it waits."""

    __slots__ = ("position", "sources", "waits_for")

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self.sources = sources
        #: Those before were there when the task came by.
        self.position = 0
        self.waits_for: Source | None = None

    @property
    def are_there(self) -> bool:
        """Whether the task can be given out."""
        return all(source.is_there for source in self.sources)

    def wait(self, job: Job, index: int, source: Source) -> None:
        """Have the task, which waits for none, wait for one of them."""
        self.waits_for = source
        source.followers[job, index] = None
        job.behind += 1

    def stopped(self, job: Job) -> None:
        """The task was taken off those that wait for an input."""
        self.waits_for = None
        job.behind -= 1

    def stop_waiting(self, job: Job, index: int) -> None:
        """Have it wait for none."""
        if self.waits_for is not None:
            del self.waits_for.followers[job, index]
            self.stopped(job)

    def release(self, job: Job, index: int) -> None:
        """The task has ended."""
        self.stop_waiting(job, index)
        for source in self.sources:
            source.release()
