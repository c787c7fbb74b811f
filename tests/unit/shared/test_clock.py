"""The clock that tests step."""

from __future__ import annotations

import pytest

from manyhands_shared.clock import SteppedClock, monotonic


def test_a_stepped_clock_moves_only_when_told() -> None:
    clock = SteppedClock(10.0)
    assert (clock(), clock()) == (10.0, 10.0)
    clock.advance(2.5)
    clock.advance(0)
    assert clock() == 12.5


def test_it_cannot_go_back() -> None:
    clock = SteppedClock()
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)
    assert clock() == 0.0


def test_the_real_clock_never_goes_back() -> None:
    assert monotonic() <= monotonic()
