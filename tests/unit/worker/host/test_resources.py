"""Amounts of resources as people write them."""

from __future__ import annotations

import pytest

from manyhands_shared.errors import ConfigError
from manyhands_worker.host import resources


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("", {}),
        ("gpu=2", {"gpu": 2.0}),
        (" gpu = 2 , memory=8e9,label=1,", {"gpu": 2.0, "memory": 8e9, "label": 1.0}),
        ("half=0.5,none=0", {"half": 0.5, "none": 0.0}),
    ],
)
def test_amounts_are_read(text: str, amounts: dict[str, float]) -> None:
    assert resources.parse(text) == amounts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gpu", "'gpu' is not of the form name=amount"),
        ("=3", "is not of the form name=amount"),
        ("gpu=two", "'gpu=two' has no number behind the equals sign"),
        ("gpu=-1", "must be 0, or between 1e-06 and"),
        ("gpu=nan", "must be 0, or between"),
        ("gpu=inf", "must be 0, or between"),
        ("gpu=5e-324", "must be 0, or between"),
        ("gpu=1,gpu=2", "gives gpu twice"),
        (",".join(f"n{n}=1" for n in range(40)), "40 names are more than 32"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=r"^resources: ") as caught:
        resources.parse(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
