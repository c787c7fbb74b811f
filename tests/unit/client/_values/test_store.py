"""What a client keeps for its tasks, and lends to nodes of its host."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing

import pytest

from harness.threads import Worker
from manyhands._values import store as module
from manyhands._values.store import Store
from manyhands_shared import shm
from manyhands_shared.errors import SubmitQueueFull

pytestmark = pytest.mark.skipif(not shm.host_id(), reason="memory is lent on Linux only")


def test_a_value_that_is_asked_for_before_it_is_on_offer_is_lent() -> None:
    queued: list[Callable[[], None]] = []
    lenders: list[shm.Lender] = []
    store = Store(bytes(16), queued.append, lambda: None, lenders.append)
    with closing(store), closing(shm.Borrower(lambda *_: None)) as borrower:
        segment = store.put([b"x" * 5_000], block=True)
        assert segment is not None
        queued.pop(0)()  # it is served, and has no offer yet
        [lender] = lenders
        for key in (segment.place.key, bytes(16)):
            borrower.ask(lender.address, key)
        lender.turn()  # the node has come
        lender.turn()  # and asks
        assert list(borrower.turn()) == []
        while queued:
            queued.pop(0)()
        answers = {key: found for _, key, found in borrower.turn()}
        assert answers.keys() == {segment.place.key, bytes(16)}
        assert answers[bytes(16)] is None, "there is no such value"
        found = answers[segment.place.key]
        assert found is not None
        os.close(found[0])


def test_equal_values_of_two_threads_are_both_had() -> None:
    value = b"x" * 5_000
    others: list[Worker] = []
    turns = iter((False, False, True))

    def call(_: Callable[[], None]) -> None:
        if next(turns, False):  # the value is kept, and cannot be found yet
            others.append(Worker(lambda: store.put([value], block=True)))
            others[0].result()

    store = Store(bytes(16), call, lambda: None, lambda _: None)
    with closing(store):
        store.put([b"y" * 5_000], block=True)
        segments = [store.put([value], block=True), others[0].result()]
        for segment in segments:
            assert segment is not None
            [[part]] = store.supply(segment.place.key, lambda _: None)
            assert bytes(part) == value


def test_values_are_had_while_others_are_stored() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        store = Store(bytes(16), lambda _: None, lambda: None, lambda _: None)
        with closing(store):
            parts = [number.to_bytes(2_500, "little") for number in range(4_000)]
            segments = [store.put([part], block=True) for part in parts[:2_000]]
            last = segments[-1]
            assert last is not None
            rest = Worker(lambda: [store.put([part], block=True) for part in parts[2_000:]])
            while rest.running:
                assert store.supply(last.place.key, lambda _: None)
            assert len(rest.result()) == 2_000
    finally:
        sys.setswitchinterval(interval)


def test_what_nobody_needs_makes_room_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    others: list[Worker] = []
    turns = iter((False, False, True))

    def call(_: Callable[[], None]) -> None:
        if next(turns, False):  # it is let go of, and another thread stores something meanwhile
            others.append(Worker(lambda: store.put([b"z" * 5_000], block=False)))
            others[0].result()

    store = Store(bytes(16), call, lambda: None, lambda _: None)
    with closing(store):
        assert store.put([b"x" * 600_000], block=False) is not None  # of a task that has ended
        segment = store.put([b"y" * 600_000], block=False)
        assert segment is not None
        assert others[0].result() is not None
        with pytest.raises(SubmitQueueFull, match="too many bytes"):
            store.put([b"a" * 600_000], block=False)
