"""What the core of a node keeps of jobs and results: plain data, and what it needs of memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from manyhands_shared.payloads.payload import Buffer, Payload
from manyhands_shared.protocol import requirements
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.labels import PYTHON
from manyhands_shared.protocol.record import record

#: A job in one attempt.
Key = tuple[str, int]


class HeldResult(Protocol):
    """A result that is kept to be fetched. It weighs `nbytes`; `ticket` is its body meanwhile.

    `key` is that of the segment in which it lies.
    """

    key: bytes
    nbytes: int
    ticket: bytes

    def admit(self, guest: str) -> None:
        """The client with this public key (hexadecimal; empty: none) may fetch it from another host."""

    def payload(self) -> tuple[Buffer, ...]:
        """The result itself. Raises OSError or ValueError where it cannot be had."""

    def free(self) -> None:
        """It need not be kept any more."""


class Block(Protocol):
    """Memory that results lie in until the broker has them."""

    def free(self) -> None:
        """Let the child write there again: the broker has taken the results."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a job asks of the node that runs its tasks: the part of its options that is for nodes.

    `timeout` in seconds, 0 for none. `capture`: what its tasks print goes into the broker's journal.
    `echo`: it goes to the client's terminal; `prefix`: there with its task's index.
    `direct`: large results may be held for the client to fetch, from another host with `fetch_key`.
    `safe`: functions by name, msgpack. `foreign`: its pickles are of another Python. `bundle`: the
    digest of the modules that it brings; empty: none. `gpu`: the devices that each task takes, whole
    ones or a part of one. `trace`: its tasks have spans. `memory`: the bytes that each may have, 0 for
    any. `requirements`: lines of what its environment has installed; `environment`: their digest; empty:
    they run in that of the node. `binding`: stands for bundle and environment.
    """

    tasks_per_child: int = 0
    timeout: float = 0.0
    at_most_once: bool = False
    capture: bool = False
    after: tuple[str, ...] = ()
    direct: bool = False
    safe: bool = False
    foreign: bool = False
    fetch_key: str = ""
    echo: bool = False
    prefix: bool = False
    bundle: bytes = b""
    gpu: float = 0.0
    trace: bool = False
    memory: int = 0
    requirements: tuple[str, ...] = ()
    environment: bytes = b""
    binding: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        # Compared for each batch.
        object.__setattr__(self, "binding", self.bundle + self.environment)

    @classmethod
    def of(cls, options: JobOptions) -> Rules:
        """The rules of a job with these options."""
        return cls(
            options.tasks_per_child,
            options.timeout,
            options.at_most_once,
            options.durable,
            options.after,
            options.direct,
            options.safe,
            options.python not in ("", PYTHON),
            options.fetch_key,
            options.echo and not options.durable,
            options.prefix,
            bytes.fromhex(options.bundle),
            options.resources.get("gpu", 0.0),
            options.trace,
            int(options.resources.get("memory", 0.0)),
            options.requirements,
            requirements.digest(options.requirements),
        )

    @property
    def has_slot_to_itself(self) -> bool:
        """Whether no task of another batch may wait in the same child."""
        return bool(self.gpu or self.memory)


NO_RULES = Rules()


@record
class Parents:
    """The results of the jobs that a job comes after: one list for each, in order of index.

    `name` stands for these very results, and the function that takes them, in a child.
    """

    name: bytes
    lists: list[list[Payload]]
    nbytes: int


@dataclass(slots=True)
class Batch:
    """Tasks of one job and attempt, handed to a slot together.

    `code` is the function that the digest `function` stands for, `modules` what `rules.bundle` does;
    `parents` come before the tasks' own arguments. Serials run from `first`. The first `done` tasks have
    been reported; those with serial `taken` and above were taken back unstarted. `devices` are theirs.
    """

    first: int
    key: Key
    function: bytes
    code: Payload
    parents: Parents | None
    rules: Rules
    indices: list[int]
    bodies: list[Payload]
    modules: Payload = b""
    devices: tuple[str, ...] = ()
    done: int = 0
    taken: int = 1 << 63
