"""Loading what lies elsewhere, and for how long that was waited for."""

from __future__ import annotations

from itertools import count

import pytest

from manyhands_shared.payloads import pickled, refs

PLACE = refs.Place(b"k" * 16, (3,), "host", "lender", b"o" * 16)


def test_nobody_but_a_task_can_load_it() -> None:
    with pytest.raises(RuntimeError, match="only a task"):
        refs.value_of(*PLACE)


def test_how_long_was_waited_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to be taken for the task's own time, whether the value came or not."""
    clock = count(0, 50)
    monkeypatch.setattr(refs, "monotonic_ns", lambda: next(clock))
    monkeypatch.setattr(refs._Process, "waited", 0)
    monkeypatch.setattr(refs._Process, "bring", lambda _place, _private: (pickled.dumps("value"),))
    assert refs.value_of(*PLACE) == "value"
    assert refs.value_of(*PLACE) == "value"
    assert [refs.take_waited(), refs.take_waited()] == [100, 0]

    def fail(_place: refs.Place, _private: bool) -> tuple[bytes, ...]:
        raise RuntimeError("gone")

    monkeypatch.setattr(refs._Process, "bring", fail)
    with pytest.raises(RuntimeError, match="gone"):
        refs.value_of(*PLACE)
    assert refs.take_waited() == 50
