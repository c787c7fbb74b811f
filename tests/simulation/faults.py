"""What can go wrong in a simulated world."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from manyhands_broker.core.model.machine import LOAD, MEMORY, NONE
from simulation.parts.broker import DOOMS
from simulation.parts.network import SILENCE

if TYPE_CHECKING:
    from simulation.parts.base import Peer
    from simulation.parts.client import Client
    from simulation.parts.node import NodeHost
    from simulation.world import World

#: Mostly memory, and rarely an end to it.
LEVELS = (MEMORY, MEMORY, MEMORY, LOAD, NONE)
Fault = Callable[["World", Random], None]


def _node(world: World, rng: Random) -> NodeHost:
    return rng.choice(world.nodes)


def _client(world: World, rng: Random) -> Client:
    return rng.choice(world.clients)


def _peer(world: World, rng: Random) -> Peer:
    return rng.choice([*world.nodes, *world.clients])


def _while(world: World, rng: Random) -> float:
    """Seconds: a moment, or longer than a lease or a link lasts."""
    return rng.choice((0.1, 1.0, world.plan.limits.lease * 2.2, SILENCE + 2.0))


def _cut(world: World, rng: Random) -> None:
    link = _peer(world, rng).link
    if link is not None and link.far_open:
        link.sever(rng.random() * 0.1, rng.choice((0.0, rng.random(), SILENCE)))


def _part(world: World, rng: Random) -> None:
    ways = rng.choice(("both", "in", "out"))
    world.network.part(_peer(world, rng), _while(world, rng), ways)


def _doom(world: World, rng: Random) -> None:
    world.broker.doom = rng.choice(DOOMS)


def _scrap(world: World, rng: Random) -> None:
    """A machine is gone for good, with what it ran; the first one never is."""
    node = rng.choice(world.nodes)
    node.scrapped = node is not world.nodes[0]
    node.crash()


def _strike(world: World, rng: Random) -> None:
    node = _node(world, rng)
    if node.alive and node.pool is not None:
        node.pool.strike()


def _slow(world: World, rng: Random) -> None:
    world.broker.disk.slowness = rng.choice((0.0, 0.01, 0.4, 2.0))


def _fill(world: World, rng: Random) -> None:
    world.broker.disk.full = not world.broker.disk.full


def _spoil(world: World, rng: Random) -> None:
    world.broker.disk.fault = rng.choice(("fails", "fails late"))


def _jump(world: World, rng: Random) -> None:
    world.broker.jump(rng.choice((-3600.0, 3600.0)))


def _pause(world: World, rng: Random) -> None:
    if world.broker.alive and world.broker.core.state.jobs:
        world.ask("pause", rng.choice(sorted(world.broker.core.state.jobs)))


#: Name → how often it is drawn, compared with the others, and what it does.
FAULTS: dict[str, tuple[int, Fault]] = {
    "cut a link": (8, _cut),
    "part": (4, _part),
    "broker dies": (3, lambda world, rng: world.broker.crash("kill -9")),
    "broker dies at a bad moment": (4, _doom),
    "broker sleeps": (2, lambda world, rng: world.sleep_broker(_while(world, rng))),
    "node dies": (4, lambda world, rng: _node(world, rng).crash()),
    "node is gone for good": (4, _scrap),
    "node sleeps": (4, lambda world, rng: world.sleep(_node(world, rng), _while(world, rng))),
    "node leaves": (1, lambda world, rng: _node(world, rng).leave()),
    "child dies": (5, _strike),
    "client dies": (1, lambda world, rng: _client(world, rng).crash()),
    "client sleeps": (1, lambda world, rng: world.sleep(_client(world, rng), _while(world, rng))),
    "disk is slow": (2, _slow),
    "disk is full": (1, _fill),
    "disk fails": (1, _spoil),
    "node is suspected": (1, lambda world, rng: world.broker.suspect()),
    "a machine is under pressure": (4, lambda world, rng: world.broker.press(rng.choice(LEVELS))),
    "wall clock jumps": (1, _jump),
    "some user pauses a job": (1, _pause),
}
