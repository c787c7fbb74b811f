"""Durations as people write them."""

from __future__ import annotations

import pytest

from manyhands import _durations as durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("12h", 43_200), ("7d", 604_800), ("1.5", 1.5), (" 0.1S ", 0.1)],
)
def test_reads(text: str, seconds: float) -> None:
    assert durations.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "7y", "d", "-1s", "nan", "inf", "1e999d", "1 2"])
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write 30s"):
        durations.parse(text)


@pytest.mark.parametrize("text", ["7d", "12h", "5m", "30s", "1.5s", "0s"])
def test_shows_what_it_reads(text: str) -> None:
    assert durations.show(durations.parse(text)) == text
