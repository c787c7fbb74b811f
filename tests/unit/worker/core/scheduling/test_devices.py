"""Which devices a task has, and which child has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.worlds.worker import World
from manyhands_worker.core import events
from manyhands_worker.core.scheduling.devices import Devices


def options(gpu: float) -> dict[str, dict[str, float]]:
    return {"resources": {"gpu": gpu}}


def assign(world: World, index: int, gpu: float, *, end: bool = True) -> tuple[str, ...]:
    """Give a task to the only slot with room for it, and return its devices."""
    world.assign(index, job=f"gpu{gpu}", options=options(gpu))
    world.tick()
    slot = next(slot for slot, given in world.given.items() if given and given[-1][2] == index)
    names = world.devices[slot][0]
    if end:
        world.finish(slot)
    return names


def test_parts_share_a_device_and_leave_the_others_whole() -> None:
    devices = Devices({"0": 1.0, "1": 1.0, "2": 1.0})
    for slot, (amount, names) in enumerate([(0.5, "0"), (0.25, "0"), (0.5, "1"), (0.25, "0")]):
        assert devices.choice(amount) == (names,)
        devices.grant(slot, amount, (names,))
    assert devices.choice(1.0) == ("2",)
    assert devices.choice(2.0) is None
    devices.release(2)
    assert devices.choice(2.0) == ("1", "2")


def test_thirds_fill_a_device_exactly_and_are_given_back_exactly() -> None:
    devices = Devices({"0": 1.0})
    for _ in range(50):
        for slot in range(3):
            assert devices.choice(1 / 3) == ("0",)
            devices.grant(slot, 1 / 3, ("0",))
        assert devices.choice(1e-3) is None
        for slot in range(3):
            devices.release(slot)
    assert devices.choice(1.0) == ("0",)


def test_a_part_of_a_device_never_lies_on_two() -> None:
    devices = Devices({"0": 1.0, "1": 1.0})
    devices.grant(0, 0.6, ("0",))
    devices.grant(1, 0.6, ("1",))
    assert devices.choice(0.6) is None, "though there are 0.8 free"
    assert devices.choice(0.4) == ("0",)


def test_a_part_of_a_device_that_a_node_offers_is_no_whole_one() -> None:
    devices = Devices({"0": 0.5})
    assert devices.choice(1.0) is None
    assert devices.choice(0.5) == ("0",)


def test_a_task_that_waits_for_tasks_lends_its_device_and_has_it_again_at_once() -> None:
    devices = Devices({"0": 1.0})
    devices.grant(0, 1.0, ("0",))
    assert devices.choice(1.0) is None
    devices.lend(0, on=True)
    devices.grant(1, 1.0, ("0",))
    devices.lend(0, on=False)
    devices.release(1)
    assert devices.choice(1.0) is None, "the first has it"
    devices.release(0)
    assert devices.choice(1.0) == ("0",)
    devices.validate([])


def test_one_that_ends_while_it_lends_gives_back_nothing_twice() -> None:
    devices = Devices({"0": 1.0})
    devices.grant(0, 1.0, ("0",))
    devices.lend(0, on=True)
    devices.release(0)
    devices.lend(0, on=False)
    devices.validate([])
    devices.grant(1, 1.0, ("0",))
    assert devices.choice(0.1) is None


def test_a_child_keeps_its_device_and_is_replaced_before_it_gets_another(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=1, devices={"0": 1.0, "1": 1.0})
    assert assign(world, 0, 1.0) == ("0",)
    assert assign(world, 1, 1.0) == ("0",)
    assert not world.retired
    world.assign(2, job="two", options=options(2.0))
    world.tick()
    assert world.retired == {0}
    assert not world.given[0]
    world.tell(events.Born(0))
    world.tick()
    assert world.devices[0] == (("0", "1"), 1.0)


def test_a_child_that_has_had_none_is_taken_before_one_is_replaced(
    make_world: Callable[..., World],
) -> None:
    world = make_world(slots=2, devices={"0": 1.0, "1": 1.0})
    assert assign(world, 0, 1.0) == ("0",)
    assert assign(world, 1, 2.0, end=False) == ("0", "1")
    assert world.devices.keys() == {1}
    assert not world.retired


@pytest.mark.parametrize("count", [3])
def test_tasks_without_devices_pass_those_that_wait_for_one(
    make_world: Callable[..., World], count: int
) -> None:
    world = make_world(slots=count, devices={"0": 1.0})
    assert assign(world, 0, 1.0, end=False) == ("0",)
    world.assign(1, job="gpu1.0")
    world.assign(2, job="plain")
    world.tick()
    assert [index for given in world.given.values() for *_, index in given] == [0, 2]
    world.finish(0)
    world.tick()
    assert [index for *_, index in world.given[0]] == [1]


def test_each_task_with_a_device_has_its_slot_to_itself(make_world: Callable[..., World]) -> None:
    world = make_world(slots=2, devices={"0": 1.0, "1": 1.0})
    for index in range(5):  # now they are known to be short
        assign(world, index, 1.0)
    world.assign(*range(10, 20), job="gpu1.0")
    world.assign(*range(20, 40), job="plain")
    world.tick()
    assert [len(given) for given in world.given.values()] == [1, 1]
