"""A session core that a test drives by hand."""

from __future__ import annotations

from typing import Any

from manyhands._session import Session
from manyhands._session.effects import Deliver, Effect, JobOver, Numbered, Send
from manyhands._session.events import AddJob, Append, Event, Flush, LinkLost, LinkUp, Received
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    ClientWelcome,
    Function,
    Message,
    ResultGroup,
    Results,
    Status,
    Submit,
    SubmitGroup,
)

BROKER = b"B" * 16


FUNCTION = Function(b"F" * 16, "f", [b"code"])


class Driver:
    """A session with its effects kept: what it sends and what it delivers."""

    def __init__(self, window_tasks: int = 1_000, window_bytes: int = 1 << 20) -> None:
        self.session = Session(b"T" * 16, name="test", info={})
        self.window = (window_tasks, window_bytes)
        self.now = 0.0
        self.sent: list[Message] = []
        self.effects: list[Effect] = []
        self.numbered: list[Numbered] = []
        #: Jobs that are over.
        self.over: list[str] = []

    def do(self, event: Event) -> None:
        for effect in self.session.handle(event, self.now):
            if isinstance(effect, Send):
                self.sent.append(effect.message)
            elif isinstance(effect, Numbered):
                self.numbered.append(effect)
            elif isinstance(effect, JobOver):
                self.over.append(effect.job)
            else:
                self.effects.append(effect)
        self.session.validate()

    def receive(self, message: Message) -> None:
        self.do(Received(message))

    def flush(self) -> list[Message]:
        """Flush until nothing is left to send; what was sent since the last time."""
        while self.session.wants_flush:
            self.do(Flush())
        sent, self.sent = self.sent, []
        return sent

    def welcome(self, *, resumed: bool = False, ping: float = 0.0) -> None:
        self.receive(ClientWelcome(PROTOCOL_VERSION, BROKER, resumed, *self.window, ping))

    def open(self) -> Driver:
        self.do(LinkUp())
        self.welcome()
        self.sent.clear()
        self.effects.clear()
        return self

    def relink(self, *, resumed: bool, ping: float = 0.0) -> None:
        """A new link in place of the one there was, and what is said on it at once."""
        self.do(LinkLost())
        self.do(LinkUp())
        self.sent.clear()
        self.welcome(resumed=resumed, ping=ping)

    def job(self, name: str = "j", count: int = 0, **options: Any) -> None:
        self.do(AddJob(name, FUNCTION, {"name": name, **options}))
        if count:
            self.do(Append(name, [b"%d" % n for n in range(count)]))

    def end(self, seq: int, job: str, indices: list[int], status: Status = Status.OK) -> None:
        bodies: list[Payload] = [b"r%d" % index for index in indices]
        self.receive(
            Results(
                seq, [ResultGroup(job, 1, indices, bytes([status] * len(indices)), bodies, 0.0)]
            )
        )

    @property
    def delivered(self) -> list[tuple[str, int, int]]:
        return [
            (effect.job, index, status)
            for effect in self.effects
            if isinstance(effect, Deliver)
            for index, status in zip(effect.indices, effect.statuses, strict=True)
        ]


def groups_of(messages: list[Message]) -> list[SubmitGroup]:
    return [
        group for message in messages if isinstance(message, Submit) for group in message.groups
    ]
