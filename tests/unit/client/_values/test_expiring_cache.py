"""What was used a moment ago stays a moment longer, and no more than there is room for."""

from __future__ import annotations

import gc
import weakref

import pytest

from harness.processes import eventually
from harness.threads import Worker, no_thread_left
from manyhands._values.expiring_cache import ExpiringCache


class Thing:
    """Something that can be watched as it goes."""


def test_it_goes_after_its_time_and_what_is_used_again_stays() -> None:
    cache = ExpiringCache(0.05, 100)
    long = ExpiringCache(3600.0, 100)
    thing, kept = Thing(), Thing()
    gone, there = weakref.ref(thing), weakref.ref(kept)
    cache.use("a", thing, 1)
    long.use("b", kept, 1)
    del thing, kept
    gc.collect()
    assert there() is not None
    eventually(lambda: gone() is None, what="its time is over")
    long.clear()
    assert there() is None


def test_there_is_room_for_so_much_and_always_for_the_last() -> None:
    cache = ExpiringCache(3600.0, 100)
    things = [Thing() for _ in range(4)]
    watched = [weakref.ref(thing) for thing in things]
    for number, thing in enumerate(things):
        cache.use(number, thing, 45)
        if number == 1:
            cache.use(0, things[0], 45)  # used again: the other one is older now
    del things, thing
    assert [ref() is not None for ref in watched] == [False, False, True, True]
    cache.use("large", Thing(), 1_000)
    assert [ref() is not None for ref in watched] == [False] * 4
    cache.clear()


def test_letting_go_may_come_back_to_it() -> None:
    cache = ExpiringCache(3600.0, 100)

    class Nosy:
        """Uses the same one as it goes."""

        def __del__(self) -> None:
            cache.use("other", object(), 1)

    nosy = Nosy()
    gone = weakref.ref(nosy)
    cache.use("nosy", nosy, 1)
    del nosy
    cache.clear()
    assert gone() is None
    cache.clear()
    assert not cache._values


def test_without_a_thread_nothing_stays() -> None:
    cache = ExpiringCache(0.05, 100)
    thing = Thing()
    gone = weakref.ref(thing)
    with no_thread_left():
        cache.use("a", thing, 1)
    del thing
    gc.collect()
    assert gone() is None
    cache.use("b", Thing(), 1)
    cache.clear()


@pytest.mark.parametrize("how", ["use", "clear", "expire"])
def test_what_goes_may_wait_for_another_thread_that_comes_here(how: str) -> None:
    cache = ExpiringCache(0.05 if how == "expire" else 3600.0, 100)
    came: list[bool] = []

    class Waiting:
        """Waits for a thread as it goes."""

        def __del__(self) -> None:
            Worker(lambda: cache.use("other", None, 1)).result()
            came.append(True)

    cache.use("waiting", Waiting(), 60)
    if how == "use":
        cache.use("new", None, 60)
    elif how == "clear":
        cache.clear()
    eventually(lambda: came == [True], what="the other thread has come")
    cache.clear()
