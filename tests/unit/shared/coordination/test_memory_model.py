"""A model of shared memory: agents with memory R and twin T, a broker with a master M, FIFO links.

Every host adds to one counter under the broker's lock, and to an item of its own whenever it likes. All
are neighbours in one grain. The counter must be exact; no host's own item may go back. What was written
before a release must be seen after the next acquire. In the end all hosts and the master are equal.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest

ITEMS, GRAIN, COUNTER = 8, 4, 0
HARMS = (
    "overwrites what is on its way",
    "leaves out grains it wrote last",
    "sends whole grains",
    "overwrites unsent writes",
    "flushes after the release",
)


class Wrong(AssertionError):
    """A host saw what it must not see."""


class Agent:
    def __init__(self, number: int) -> None:
        self.number, self.own = number, 1 + number
        self.R, self.T = [0] * ITEMS, [0] * ITEMS
        self.seq = 0
        # Writes that the broker has not confirmed yet.
        self.on_their_way: list[tuple[int, set[int]]] = []
        self.up: deque[Any] = deque()
        self.down: deque[Any] = deque()

    def flush(self, harm: str = "") -> None:
        changed = [i for i in range(ITEMS) if self.R[i] != self.T[i]]
        if harm == "sends whole grains":
            changed = [i for i in range(ITEMS) if i // GRAIN in {c // GRAIN for c in changed}]
        if changed:
            self.seq += 1
            self.up.append(("write", self.seq, {i: self.R[i] for i in changed}))
            self.on_their_way.append((self.seq, set(changed)))
            for i in changed:
                self.T[i] = self.R[i]

    def apply(self, seen: int, patch: dict[int, int], harm: str = "") -> None:
        self.on_their_way = [one for one in self.on_their_way if one[0] > seen]
        ours: set[int] = set().union(*(items for _, items in self.on_their_way))
        for i, value in patch.items():
            if i in ours and harm != "overwrites what is on its way":
                # Ours comes behind this in the master's order.
                continue
            if self.R[i] == self.T[i] or harm == "overwrites unsent writes":
                self.R[i] = value
            self.T[i] = value


class Broker:
    def __init__(self, agents: list[Agent]) -> None:
        self.agents, self.M, self.clock = agents, [0] * ITEMS, 0
        grains = ITEMS // GRAIN
        self.last, self.others = [0] * grains, [0] * grains
        self.writer: list[int | None] = [None] * grains
        self.sent, self.seen = [0] * len(agents), [0] * len(agents)
        self.holder: Agent | None = None
        self.queue: deque[Agent] = deque()

    def hear(self, agent: Agent, message: Any, harm: str = "") -> None:
        kind, *rest = message
        if kind == "write":
            self.seen[agent.number], patch = rest
            self.clock += 1
            for i, value in patch.items():
                self.M[i] = value
            for grain in {i // GRAIN for i in patch}:
                # The latest clock of any other than the writer.
                if self.writer[grain] != agent.number:
                    self.others[grain] = self.last[grain]
                self.writer[grain], self.last[grain] = agent.number, self.clock
        elif kind == "acquire":
            self.queue.append(agent)
        else:
            self.holder = None
        if self.holder is None and self.queue:
            self.holder = self.queue.popleft()
            self.update(self.holder, harm)
            # It is granted.
            self.holder.down.append(None)

    def update(self, agent: Agent, harm: str = "") -> None:
        patch: dict[int, int] = {}
        for grain, last in enumerate(self.last):
            clock = last
            if self.writer[grain] == agent.number:
                clock = 0 if harm == "leaves out grains it wrote last" else self.others[grain]
            if clock > self.sent[agent.number]:
                patch |= {i: self.M[i] for i in range(grain * GRAIN, (grain + 1) * GRAIN)}
        self.sent[agent.number] = self.clock
        agent.down.append((self.seen[agent.number], patch))


def run(seed: int, harm: str = "", hosts: int = 3, rounds: int = 12) -> None:  # noqa: C901, PLR0912, PLR0915 - one history
    rng = random.Random(seed)
    agents = [Agent(n) for n in range(hosts)]
    broker, added, released = Broker(agents), 0, [0] * hosts
    left, doing = [rounds] * hosts, ["idle"] * hosts
    while any(left) or any(agent.up or agent.down for agent in agents):
        agent = rng.choice(agents)
        n, what = agent.number, rng.random()
        if what < 0.2 and left[n]:
            agent.R[agent.own] += 1
        elif what < 0.25:
            agent.flush(harm)
        elif what < 0.5 and agent.up:
            broker.hear(agent, agent.up.popleft(), harm)
            if rng.random() < 0.15:
                # Freshness.
                broker.update(rng.choice(agents), harm)
        elif what < 0.75 and agent.down:
            message, before = agent.down.popleft(), agent.R[agent.own]
            if message is None:
                doing[n] = "inside"
                continue
            agent.apply(message[0], message[1], harm)
            if agent.R[agent.own] < before:
                raise Wrong(
                    f"host {n}: its own item went back from {before} to {agent.R[agent.own]}"
                )
        elif doing[n] == "idle" and left[n]:
            agent.up.append(("acquire",))
            doing[n] = "waits"
        elif doing[n] == "inside":
            for other in agents:
                if agent.R[other.own] < released[other.number]:
                    raise Wrong(
                        f"host {n} misses what host {other.number} wrote before it released"
                    )
            agent.R[COUNTER] += 1
            added += 1
            doing[n] = "leaves"
        elif doing[n] == "leaves":
            released[n] = agent.R[agent.own]
            if harm == "flushes after the release":
                agent.up.append(("release",))
                agent.flush(harm)
            else:
                agent.flush(harm)
                agent.up.append(("release",))
            doing[n], left[n] = "idle", left[n] - 1
    for agent in agents:
        agent.flush(harm)
        while agent.up:
            broker.hear(agent, agent.up.popleft(), harm)
    for agent in agents:
        broker.update(agent, harm)
        while agent.down:
            message = agent.down.popleft()
            agent.apply(message[0], message[1], harm)
        if agent.R != broker.M:
            raise Wrong(f"host {agent.number} ends with {agent.R}, the master with {broker.M}")
    if broker.M[COUNTER] != added:
        raise Wrong(f"the counter says {broker.M[COUNTER]}, {added} were added")


def run_all(seeds: int, harm: str = "") -> None:
    for seed in range(seeds):
        run(seed, harm, hosts=2 + seed % 3)


def test_the_model_holds() -> None:
    run_all(600)


@pytest.mark.parametrize("harm", HARMS)
def test_each_harm_is_found(harm: str) -> None:
    with pytest.raises(Wrong):
        run_all(500, harm)
