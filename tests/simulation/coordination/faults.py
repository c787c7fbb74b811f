"""What goes wrong, and when."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from simulation.coordination.broker import DOOMS

if TYPE_CHECKING:
    from simulation.coordination.host import Host
    from simulation.coordination.world import World


def draw(random: Random) -> list[tuple[float, str]]:
    """Return the faults of one run; some runs have none."""
    count = random.choice((0, 2, 4, 8, 12))
    kinds = random.sample(sorted(FAULTS), k=random.randint(1, len(FAULTS)))
    return [
        (random.random() * random.choice((10.0, 36.0)), random.choice(kinds)) for _ in range(count)
    ]


def _host(world: World, random: Random) -> Host:
    return random.choice(world.hosts)


def _crash_broker(world: World, random: Random) -> None:
    if random.random() < 0.3:
        world.broker.crash("killed")
    else:
        world.broker.doom = random.choice(DOOMS)


def _stop_broker(world: World, random: Random) -> None:
    world.broker.pause(random.choice((1.0, 8.0)))


def _cut(world: World, random: Random) -> None:
    _host(world, random).cut(random.choice((0.2, 2.0, 4.0, 8.0, 12.0, 25.0)))


def _lose_link(world: World, random: Random) -> None:
    agent = _host(world, random).agent
    if agent is not None and agent.link is not None:
        agent.link.cut(random.random() * 2.0, random.random() * 6.0)


def _stall_link(world: World, random: Random) -> None:
    """Packets are lost until the system sends them again, perhaps after the lease."""
    agent = _host(world, random).agent
    if agent is not None and agent.link is not None:
        until = world.now + random.choice((0.5, 3.0, 7.0))
        agent.link.up_stalled_until = agent.link.down_stalled_until = until


def _pass_one_way(world: World, random: Random) -> None:
    """What one side sends does not arrive for a while; it hears all that the other one says."""
    agent = _host(world, random).agent
    if agent is not None and agent.link is not None:
        until = world.now + random.choice((0.5, 3.0, 7.0, 12.0))
        if random.random() < 0.5:
            agent.link.up_stalled_until = until
        else:
            agent.link.down_stalled_until = until


def _kill_agent(world: World, random: Random) -> None:
    _host(world, random).kill_agent()


def _crash_host(world: World, random: Random) -> None:
    host = _host(world, random)
    if host is not world.hosts[0]:
        host.crash()


def _sleep(world: World, random: Random) -> None:
    _host(world, random).sleep(random.choice((0.5, 3.0, 6.0, 12.0)))


def _kill_member(world: World, random: Random) -> None:
    agent = _host(world, random).agent
    if agent is not None and agent.members:
        agent.members[random.choice(sorted(agent.members))].signalled(9)


def _kill_root(world: World, random: Random) -> None:
    if random.random() < 0.3:
        world.root.die(-9)


FAULTS: dict[str, Callable[[World, Random], None]] = {
    "the broker crashes": _crash_broker,
    "the broker stands still": _stop_broker,
    "a host is cut off": _cut,
    "a link is lost": _lose_link,
    "a link stalls": _stall_link,
    "a link passes one way": _pass_one_way,
    "an agent is killed": _kill_agent,
    "a host crashes": _crash_host,
    "a host stands still": _sleep,
    "a process is killed": _kill_member,
    "the root is killed": _kill_root,
}
