"""When empty slots get a child, and when a node is known to have none."""

from __future__ import annotations

from manyhands_worker.pool.births import Births


def test_two_that_die_young_are_replaced_at_once_and_the_next_ones_later_and_later() -> None:
    births = Births(1)
    delays = [births.after_death(0, healthy=False) for _ in range(5)]
    assert delays == [0.0, 0.0, 0.4, 0.8, 1.6]


def test_a_slot_waits_a_few_seconds_at_most() -> None:
    births = Births(1)
    assert max(births.next_delay(0) for _ in range(20)) == 5.0


def test_a_child_that_did_not_die_of_its_start_begins_the_count_anew() -> None:
    births = Births(2)
    for _ in range(3):
        births.next_delay(0)
    assert births.after_death(0, healthy=True) == 0.0
    assert births.next_delay(0) == 0.1
    assert births.next_delay(1) == 0.1


def test_a_node_cannot_work_after_three_failed_starts_without_a_child_and_says_so_once() -> None:
    births = Births(1)
    told = [births.fail(without_children=True) for _ in range(4)]
    assert told == [False, False, True, False]
    assert births.succeed()
    assert births.failed == 0
    assert not births.succeed()


def test_a_node_with_another_child_goes_on_working() -> None:
    births = Births(2)
    assert not any(births.fail(without_children=False) for _ in range(5))
    assert not births.succeed()
