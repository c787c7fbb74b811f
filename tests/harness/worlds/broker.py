"""The scheduler between a client and nodes, with a journal and a clock that is stepped."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from manyhands_broker.core import Core, Drained, Limits, Persist, Received, Say, Send
from manyhands_broker.core import records as r
from manyhands_broker.core.effects import Effect
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status

FUNCTION = bytes(range(16))
LIMITS = Limits(lease=10.0, session_grace=60.0)


class World:
    """A core and its journal; commits are made as the loop makes them. Restarts keep the journal."""

    def __init__(self, limits: Limits = LIMITS, journal: MemoryJournal | None = None) -> None:
        self.limits = limits
        self.journal = journal or MemoryJournal()
        self.now = 100.0
        self.inbox: dict[bytes, list[Any]] = {}
        self.records: list[r.Record] = []
        #: Whether something is meant to break inside the scheduler.
        self.broken = False
        #: Whether every drain is checked; it costs as much as the broker holds.
        self.inspected = True
        #: What the operator was told.
        self.said: list[str] = []
        self.core = self.start()

    def start(self) -> Core:
        rng = random.Random(7)
        self.core = Core(self.limits, bytes(16), self.journal, self.now, epoch=1e6, rng=rng)
        self.do(self.core.restore(self.journal.jobs()))
        return self.core

    def restart(self, after: float = 1.0) -> None:
        """The broker is killed and started again; its journal is all that stays."""
        self.journal.rollback()
        self.inbox.clear()
        self.now += after
        self.start()

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.records.append(effect.record)
                self.journal.append(effect.record)
            elif isinstance(effect, Say):
                self.said.append(effect.text)
        self.journal.commit()
        for effect in effects:
            if isinstance(effect, Send):
                self.inbox.setdefault(effect.peer, []).append(effect.message)

    def drain(self, *said: tuple[bytes, m.Message]) -> None:
        """Everything that is said in one turn of the loop, and what the broker makes of it."""
        effects: list[Effect] = []
        for peer, message in said:
            effects += self.core.handle(Received(peer, message), self.now)
        effects += self.core.handle(Drained(), self.now)
        self.do(effects)
        if self.inspected:
            self.core.validate()
        assert self.broken or not self.core.state.counters["internal_errors"]

    def wait(self, seconds: float, *alive: bytes) -> None:
        """Let time pass; nodes in `alive` renew their leases."""
        end = self.now + seconds
        while self.now < end:
            wake = self.core.wake_at
            self.now = min(end, self.now + 1.0, max(wake or end, self.now + 1e-6))
            self.drain(*((node, m.Renew(0, 2, 100, [])) for node in alive))

    def take(self, peer: bytes, kind: type) -> list[Any]:
        """Messages of one kind that `peer` has got since the last look."""
        box = self.inbox.get(peer, [])
        self.inbox[peer] = [message for message in box if not isinstance(message, kind)]
        return [message for message in box if isinstance(message, kind)]

    # Peers

    def client(self, peer: bytes = b"client", last_seq: int = 0) -> None:
        self.drain((peer, m.ClientHello(1, peer.ljust(16, b"."), peer.decode(), last_seq, 0, {})))

    def node(
        self, peer: bytes = b"node", holding: Iterable[m.Span] = (), slots: int = 2, **info: Any
    ) -> list[m.Span]:
        boot = peer.ljust(16, b"_")
        self.drain((peer, m.WorkerHello(1, peer.decode(), boot, slots, 1_000, list(holding), info)))
        [welcome] = self.take(peer, m.WorkerWelcome)
        return welcome.keep  # type: ignore[no-any-return]

    def submit(
        self,
        count: int = 1,
        job: str = "job",
        *,
        first: int = 0,
        closed: bool = True,
        peer: bytes = b"client",
        **options: Any,
    ) -> None:
        options = {"durable": True, **options}
        bodies: list[Payload] = [b"arg%d" % index for index in range(first, first + count)]
        self.drain(
            (peer, m.Function(FUNCTION, "f", [b"code"])),
            (peer, m.Submit([m.SubmitGroup(job, FUNCTION, options, first, closed, bodies)])),
        )

    def assigned(self, peer: bytes = b"node") -> dict[tuple[str, int], tuple[int, Any]]:
        """(job, index) → (attempt, body) of what a node was given since the last look."""
        return {
            (group.job, index): (group.attempt, body)
            for message in self.take(peer, m.Assign)
            for group in message.groups
            for index, body in zip(group.indices, group.bodies, strict=True)
        }

    def result(
        self,
        index: int,
        attempt: int = 1,
        job: str = "job",
        status: Status = Status.OK,
        body: Any = None,
    ) -> m.Results:
        if body is None:
            body = b"result%d" % index
            if status:
                body = Failure("ValueError", "bad", bases=("ValueError", "Exception")).encode()
        return m.Results(1, [m.ResultGroup(job, attempt, [index], bytes([status]), [body], 0.01)])

    def results(self, peer: bytes = b"client") -> list[tuple[str, int, int]]:
        """(job, index, status) in the order of arrival."""
        return [
            (group.job, index, status)
            for message in self.take(peer, m.Results)
            for group in message.groups
            for index, status in zip(group.indices, group.statuses, strict=True)
        ]

    def ask(self, what: str, peer: bytes = b"client", **arguments: Any) -> Any:
        self.drain((peer, m.Query(1, what, arguments)))
        [reply] = self.take(peer, m.Reply)
        if reply.error:
            raise LookupError(reply.error)
        return reply.data

    def run_all(self, peer: bytes = b"node") -> int:
        """End everything that the node is given until nothing more comes; returns how much."""
        ran = 0
        while given := self.assigned(peer):
            ran += len(given)
            self.drain(*((peer, self.result(i, n, j)) for (j, i), (n, _) in given.items()))
        return ran
