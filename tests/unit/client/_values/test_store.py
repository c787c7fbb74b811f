"""What a client keeps for its tasks, and lends to nodes of its host."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing

import pytest

from manyhands._values.store import Store
from manyhands_shared import shm

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
