"""The scheduler under random histories: nodes die, lag, repeat themselves; clients come and go."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from manyhands_broker.core import Core, Drained, Limits, LinkClosed, Received, Send
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status

SEEDS = int(os.environ.get("MANYHANDS_TEST_SEEDS", "150"))
FUNCTION = bytes(range(16))


@dataclass
class FakeNode:
    """Holds what it is given and ends it in random order."""

    name: str
    boot_id: bytes
    peer: bytes
    active: dict[tuple[str, int], int] = field(default_factory=dict)
    seq: int = 0
    late: list[m.Message] = field(default_factory=list)
    welcomed: bool = False


class World:
    """A core, two clients and some nodes, driven by one random generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        hasty: dict[str, Any] = {
            "speculate_floor": 0.0,
            "speculate_again": 0.0,
            "speculate_share": 0.0,
        }
        self.limits = Limits(lease=10.0, session_grace=1e9, crash_limit=3, **hasty)
        self.core = Core(self.limits, bytes(16), MemoryJournal(), 0.0, rng=self.random)
        self.now = 0.0
        self.fresh = 0
        #: Small jobs often have nothing that waits, so that their tasks run twice.
        self.small = self.random.random() < 0.5
        self.nodes: dict[bytes, FakeNode] = {}
        self.dead: set[bytes] = set()
        self.sessions = [b"s" * 15 + bytes([n]) for n in range(2)]
        self.client_peers = dict.fromkeys(self.sessions, b"")
        self.submitted: dict[str, int] = {}
        self.owner: dict[str, bytes] = {}
        self.results: dict[tuple[str, int], int] = {}
        #: Attempts in which each task was given out. Of them, the last may bring an answer, or with
        #: speculative execution the last two.
        self.attempts: dict[tuple[str, int], int] = {}
        self.speculative: set[str] = set()
        #: Jobs whose tasks take something of their node; what decides on that and on loans.
        self.equipped: set[str] = set()
        self.chance = random.Random(f"{seed}/lent")
        self.seen_seq = dict.fromkeys(self.sessions, 0)
        for token in self.sessions:
            self.connect(token)
        for _ in range(3 * self.small):
            self.join()

    def peer(self) -> bytes:
        self.fresh += 1
        return self.fresh.to_bytes(5, "big")

    def feed(self, event: object) -> None:
        self.deliver(self.core.handle(event, self.now))  # type: ignore[arg-type]

    def say(self, peer: bytes, message: m.Message) -> None:
        self.feed(Received(peer, message))

    def deliver(self, effects: list[object]) -> None:
        closed = []
        for effect in effects:
            if not isinstance(effect, Send):
                continue
            if isinstance(effect.message, m.Assign):
                self.given(effect.message)
            if effect.peer in self.dead:
                closed.append(effect.peer)
            elif effect.peer in self.nodes:
                self.node_gets(self.nodes[effect.peer], effect.message)
            else:
                self.client_gets(effect.peer, effect.message)
        for peer in closed:
            self.feed(LinkClosed(peer))

    def given(self, message: m.Assign) -> None:
        for group in message.groups:
            for index in group.indices:
                assert self.attempts.get((group.job, index), 0) < group.attempt
                self.attempts[group.job, index] = group.attempt

    def node_gets(self, node: FakeNode, message: m.Message) -> None:
        match message:
            case m.Assign(groups):
                for group in groups:
                    for index in group.indices:
                        node.active[group.job, index] = group.attempt
            case m.WorkerWelcome():
                node.welcomed = True
                keep = {(span.job, index) for span in message.keep for index in span.indices}
                node.active = {key: value for key, value in node.active.items() if key in keep}
            case m.Who():
                self.node_hello(node)
            case m.Recall(count):
                back = list(node.active.items())[-count:] if self.random.random() < 0.8 else []
                for key, _ in back:
                    del node.active[key]
                self.say(node.peer, m.Returned([m.Span(job, n, [i]) for (job, i), n in back]))
            case m.Cancel(spans):
                for span in spans:
                    for index in span.indices:
                        if node.active.get((span.job, index)) == span.attempt:
                            self.finish(node, [(span.job, index)], Status.CANCELLED)

    def client_gets(self, peer: bytes, message: m.Message) -> None:
        token = next((t for t, p in self.client_peers.items() if p == peer), None)
        if token is None:
            return
        if isinstance(message, m.Results) and message.seq > self.seen_seq[token]:
            assert message.seq == self.seen_seq[token] + 1, "a result message was left out"
            self.seen_seq[token] = message.seq
            for group in message.groups:
                for index, status in zip(group.indices, group.statuses, strict=True):
                    if status != Status.CANCELLED:
                        last = self.attempts[group.job, index]
                        first = last - 1 if group.job in self.speculative else last
                        assert first <= group.attempt <= last, "stale attempt"
                    assert (group.job, index) not in self.results, "delivered twice"
                    assert self.owner[group.job] == token
                    self.results[group.job, index] = status
            if self.random.random() < 0.8:
                self.say(peer, m.Ack(message.seq))

    def connect(self, token: bytes) -> None:
        peer = self.client_peers[token] = self.peer()
        limit = self.random.choice([0, 0, 3])
        self.say(peer, m.ClientHello(1, token, "c", self.seen_seq[token], limit, {}))

    def submit(self) -> None:
        token = self.random.choice(self.sessions)
        peer = self.client_peers[token]
        mine = [job for job, owner in self.owner.items() if owner == token]
        if mine and self.random.random() < 0.5:
            job = self.random.choice(mine)
        else:
            job = f"job{len(self.owner)}"
            self.owner[job], self.submitted[job] = token, 0
        count = self.random.choice([1, 1, 3] if self.small else [1, 1, 1, 3, 3, 40, 40, 1500])
        options: dict[str, Any] = {"priority": self.random.choice([0, 0, 1])}
        if not self.submitted[job] and self.random.random() < 0.5:
            self.speculative.add(job)
        if job in self.speculative:
            options["speculative"] = True
        if not self.submitted[job] and self.chance.random() < 0.3:
            self.equipped.add(job)
        if job in self.equipped:
            options["resources"] = {"cpus": 0.3}
        group = m.SubmitGroup(job, FUNCTION, options, self.submitted[job], False, [b"x"] * count)
        if self.random.random() < 0.9:
            self.say(peer, m.Function(FUNCTION, "f", [b"code"]))
        self.say(peer, m.Submit([group]))
        if self.random.random() < 0.1:
            self.say(peer, m.Submit([group]))
        self.submitted[job] += count

    def node_hello(self, node: FakeNode) -> None:
        holding = [m.Span(job, attempt, [index]) for (job, index), attempt in node.active.items()]
        self.say(node.peer, m.WorkerHello(1, node.name, node.boot_id, 2, 600, holding, {}))

    def join(self) -> None:
        peer = self.peer()
        node = FakeNode(f"n{self.fresh}", self.random.randbytes(16), peer)
        self.nodes[peer] = node
        self.node_hello(node)

    def alive(self) -> list[FakeNode]:
        return [node for peer, node in self.nodes.items() if peer not in self.dead]

    def lent(self, node: FakeNode) -> list[m.Span]:
        """Some of what a node has waits for tasks, and it is wrong about some attempts."""
        some = self.chance.sample(
            sorted(node.active), min(len(node.active), self.chance.choice([0, 3]))
        )
        wrong = self.chance.choice([0, 0, 1])
        return [m.Span(job, node.active[job, index] + wrong, [index]) for job, index in some]

    def finish(self, node: FakeNode, keys: list[tuple[str, int]], status: int) -> None:
        groups: dict[tuple[str, int], list[int]] = {}
        for job, index in keys:
            groups.setdefault((job, node.active.pop((job, index))), []).append(index)
        body = b"ok" if status == Status.OK else Failure("E", "died").encode()
        node.seq += 1
        message = m.Results(
            node.seq,
            [
                m.ResultGroup(
                    job,
                    attempt,
                    indices,
                    bytes([status]) * len(indices),
                    [body] * len(indices),
                    0.001,
                )
                for (job, attempt), indices in groups.items()
            ],
        )
        self.say(node.peer, message)
        if self.random.random() < 0.2:
            node.late.append(message)

    def step(self) -> None:
        chance = self.random.random()
        alive = self.alive()
        if chance < 0.15:
            self.submit()
        elif chance < 0.2 and len(alive) < 4:
            self.join()
        elif chance < 0.55 and alive:
            node = self.random.choice(alive)
            keys = self.random.sample(
                sorted(node.active), min(len(node.active), self.random.choice([1, 5, 500]))
            )
            if keys:
                self.finish(node, keys, self.random.choices([0, 1, 2], [20, 2, 1])[0])
        elif chance < 0.6 and alive:
            node = self.random.choice(alive)
            if node.late:
                self.say(node.peer, self.random.choice(node.late))
        elif chance < 0.64 and alive:
            self.dead.add(self.random.choice(alive).peer)
        elif chance < 0.68 and alive:  # a new link for an old node; some of what it held was lost
            node = self.random.choice(alive)
            self.dead.add(node.peer)
            del self.nodes[node.peer]
            if node.active and self.random.random() < 0.5:
                job, index = self.random.choice(sorted(node.active))
                attempt = node.active.pop((job, index))
                group = m.ResultGroup(job, attempt, [index], bytes(1), [b"late"], 0.001)
                node.late.append(m.Results(0, [group]))
            node.peer = self.peer()
            self.nodes[node.peer] = node
            self.node_hello(node)
        elif chance < 0.72:
            self.connect(self.random.choice(self.sessions))
        elif chance < 0.76 and self.owner:
            job = self.random.choice(list(self.owner))
            indices = [] if self.random.random() < 0.2 else self.random.sample(range(50), 5)
            self.say(self.client_peers[self.owner[job]], m.Cancel([m.Span(job, 0, indices)]))
        elif chance < 0.8:
            self.now += self.random.choice([0.1, 3.0, 11.0])
        for node in self.alive():
            self.say(node.peer, m.Renew(0, 2, 600, self.lent(node)))
        self.feed(Drained())
        self.core.validate()

    def drain(self) -> None:
        for token in self.sessions:
            self.connect(token)
            self.say(self.client_peers[token], m.Function(FUNCTION, "f", [b"code"]))
        self.join()
        for _ in range(3000):
            if len(self.results) == sum(self.submitted.values()):
                return
            self.now += 1.0
            for node in self.alive():
                self.say(node.peer, m.Renew(0, 2, 600, []))
                if node.active:
                    self.finish(node, list(node.active), Status.OK)
            for token, peer in self.client_peers.items():
                self.say(peer, m.Ack(self.seen_seq[token]))
            self.feed(Drained())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_task_ends_once_whatever_happens(seed: int) -> None:
    world = World(seed)
    for _ in range(60):
        world.step()
    world.drain()
    wanted = {(job, index) for job, count in world.submitted.items() for index in range(count)}
    assert world.results.keys() == wanted, f"seed {seed}"
    state = world.core.state
    assert not state.queued
    for node in state.fleet:
        assert not node.twins, f"seed {seed}"
        assert not node.stopping or node.peer in world.dead, f"seed {seed}"


def test_tasks_run_twice_in_these_histories() -> None:
    counts: Counter[str] = Counter()
    for seed in range(30):
        world = World(seed)
        for _ in range(60):
            world.step()
        world.drain()
        counts += world.core.state.counters
    assert counts["tasks_speculated"] > 10
    assert counts["tasks_speculated"] > counts["speculations_won"] > 0
