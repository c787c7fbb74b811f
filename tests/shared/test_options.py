"""Job options as they travel."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from manyhands_shared import options
from manyhands_shared.errors import ProtocolError
from manyhands_shared.options import JobOptions


def test_only_what_differs_travels() -> None:
    assert JobOptions().to_map() == {}
    assert JobOptions(name="n", priority=5).to_map() == {"name": "n", "priority": 5}


def test_there_and_back() -> None:
    given = JobOptions(name="n", priority=-3, tasks_per_child=7)
    assert JobOptions.from_map(given.to_map()) == given
    assert JobOptions.from_map({}) == JobOptions()


def test_every_option_has_a_check() -> None:
    assert set(options._CHECKS) == {field.name for field in fields(JobOptions)}


@pytest.mark.parametrize(
    "values",
    [
        {"colour": "red"},
        {"name": 5},
        {"name": "x" * (options.MAX_NAME_CHARS + 1)},
        {"priority": 1.5},
        {"priority": True},
        {"priority": 1_001},
        {"tasks_per_child": -1},
        {"tasks_per_child": "x" * 100_000},
        {"at_most_once": True, "retries": 1},
        {"at_most_once": True, "speculative": True},
        {"speculative": 1.5},
    ],
)
def test_what_does_not_fit_is_refused_in_few_words(values: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as info:
        JobOptions.from_map(values)
    assert next(iter(values)) in str(info.value)
    assert len(str(info.value)) < 200
