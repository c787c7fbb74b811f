"""Messages of every kind, more or less odd: what is plausible in them gets past the first checks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from harness.hostile import ODD, edges
from harness.strategies import GROUPS
from manyhands_shared.protocol import bounds
from manyhands_shared.protocol import messages as m

#: What each role may say to the broker; some of it only after a hello.
OF_CLIENTS = (
    *(m.ClientHello, m.Function, m.Submit, m.Ack, m.Cancel, m.Attach, m.Detach, m.Throttle),
    *(m.Taken, m.Relay, m.Stock, m.Inputs, m.Query, m.Ping, m.Pong, m.Bye),
)
OF_NODES = (
    *(m.WorkerHello, m.Results, m.Returned, m.Renew, m.Need, m.Event, m.Output, m.Want),
    *(m.Ping, m.Pong, m.Bye),
)
CODE = b"payload"
FUNCTIONS = (blake2b(CODE, digest_size=16).digest(), b"f" * 16)
#: Bytes above which a message counts as heavy: most of the time would go to these.
HEAVY = 16_384


@dataclass
class Talk:
    """What one peer knows when it speaks: its names, and ids that mean something to the broker."""

    rng: random.Random
    role: str
    token: bytes
    node: str
    jobs: list[str] = field(default_factory=list)

    def message(self) -> Any:
        """Anything that it might say."""
        rng = self.rng
        kinds: tuple[type, ...] = OF_NODES if self.role == "worker" else OF_CLIENTS
        if rng.random() < 0.05:
            kinds = (*OF_NODES, *OF_CLIENTS, m.Assign, m.Recall, m.Refused, m.ClientWelcome)
        kind = rng.choice(kinds)
        if kind is m.Bye and rng.random() < 0.9:
            kind = m.Ping
        return self.record(kind, rng.choice((0.0, 0.0, 0.1, 0.4)))

    def answer(self, given: m.Assign) -> list[Any]:
        """What a node may say of tasks that it was given."""
        return [
            m.Results(
                self.rng.choice((1, 1 << 52)),
                [
                    m.ResultGroup(
                        group.job,
                        group.attempt,
                        group.indices,
                        bytes(self.rng.randrange(8) for _ in group.indices),
                        [CODE] * len(group.indices),
                        self.rng.choice((0.0, bounds.LEAST, 1e-9, 1e10)),
                    )
                ],
            )
            for group in given.groups
        ]

    def record(self, kind: Any, oddness: float) -> Any:
        """Return a message or group whose fields are odd with the probability `oddness`."""
        values = {
            name: self._value(name, bound, oddness)
            for name, bound in bounds.of_fields(kind).items()
        }
        made = kind(**values)
        if kind in GROUPS and self.rng.random() >= oddness:
            self._even(made)
        return made

    def _value(self, name: str, bound: bounds.Bound, oddness: float) -> Any:
        rng = self.rng
        if isinstance(bound, bounds.Groups):
            return [self.record(bound.group, oddness) for _ in range(rng.choice((0, 1, 1, 2, 4)))]
        if rng.random() >= oddness:
            return self._plausible(name, bound)
        if isinstance(bound, bounds.Bodies):
            return rng.choice(([], [b""], [b"x"] * 3, [(b"x", b"y")]))
        within, beyond = edges(bound)
        return rng.choice((*within, *beyond, rng.choice(ODD)))

    def _plausible(  # noqa: C901, PLR0911, PLR0912 - a case for each name
        self, name: str, bound: bounds.Bound
    ) -> Any:
        rng = self.rng
        match name:
            case "job":
                return rng.choice(self.jobs)
            case "function" | "digest":
                return rng.choice(FUNCTIONS)
            case "session":
                return self.token
            case "node" | "name":
                return self.node
            case "boot_id":
                return self.node.encode().ljust(16, b"_")[:16]
            case "protocol":
                return m.PROTOCOL_VERSION
            case "options":
                return self._options() if rng.random() < 0.8 else None
            case "info":
                return {"labels": ["evil"], "resources": self._amounts(), "host_id": "h"}
            case "arguments":
                return self._arguments()
            case "what":
                return rng.choice(("jobs", "job", "why", "failed", "output", "pause", "resume"))
            case "first":
                return rng.choice((0, 0, 0, 1, 2, 1 << 20, bounds.MAX_INDEX - 8))
            case "attempt":
                return rng.choice((0, 1, 1, 2, 3, 1 << 30, (1 << 31) - 1))
        match bound:
            case bounds.Int(_, low, high):
                return min(max(low, rng.choice((0, 1, 2, 7))), high)
            case bounds.Indices():
                return rng.sample(range(8), rng.randrange(1, 5))
            case bounds.Bodies(_, least, most):
                return [CODE] * max(least, min(most, rng.randrange(4)))
            case bounds.Float(_, low):
                return max(low, rng.choice((0.0, 1e-9, 0.01, 5.0)))
            case bounds.Text():
                return "text"
        return edges(bound)[0][0]

    def _even(self, group: Any) -> None:
        """Make the vectors of a group equally long."""
        if hasattr(group, "indices") and type(group.indices) is list:
            count = len(group.indices)
            if hasattr(group, "bodies"):
                group.bodies = [CODE] * count
            if hasattr(group, "statuses"):
                group.statuses = bytes(self.rng.randrange(8) for _ in range(count))
        if hasattr(group, "keys"):
            group.keys, group.sizes = b"k" * 16, [self.rng.choice((0, 1, 1 << 40))]

    def _options(self) -> dict[str, Any]:
        rng = self.rng
        choices: dict[str, Any] = {
            "needs": rng.choice((["evil"], ["evil"], ["pickle"], [f"odd{rng.randrange(99)}"])),
            "durable": True,
            "after": rng.sample(self.jobs, 2),
            "resources": self._amounts(),
            "deadline": rng.choice((1e-9, 0.01, 3e8)),
            "timeout": rng.choice((1e-9, 0.01, 3e8)),
            "retries": rng.choice((1, 5)),
            "retry_delay": rng.choice((0, 1e-300, 3e8)),
            "at_most_once": True,
            "speculative": True,
            "direct": True,
            "safe": True,
            "priority": rng.choice((-1_000, 0, 1_000)),
            "crash_limit": rng.choice((0, 1)),
            rng.choice(("name", "needs", "deadline", "resources", "x")): rng.choice(ODD),
        }
        names = rng.sample(list(choices), rng.randrange(5))
        return {"needs": choices["needs"], **{name: choices[name] for name in names}}

    def _amounts(self) -> dict[str, Any]:
        rng = self.rng
        amounts = (0, -0.0, 1, 1e-6, 1e18, 5e-324, 1e308)
        return {rng.choice(("cpus", "gpu", "memory")): rng.choice(amounts) for _ in range(2)}

    def _arguments(self) -> dict[str, Any]:
        rng = self.rng
        values = {
            "id": rng.choice(self.jobs),
            "first": rng.choice((0, 3, -1, 1 << 47, "x")),
            "limit": rng.choice((0, 5, 1 << 40, None)),
            "skip": rng.choice((0, 1 << 40, 0.5)),
            "begins": rng.choice(("", "e", 7)),
        }
        return {name: values[name] for name in ("id", *rng.sample(list(values), 2))}
