"""Job options as they travel."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from manyhands_shared.errors import ProtocolError
from manyhands_shared.protocol import bounds, job_options
from manyhands_shared.protocol.job_options import JobOptions


def test_only_what_differs_travels() -> None:
    assert JobOptions().to_map() == {}
    assert JobOptions(name="n", priority=5).to_map() == {"name": "n", "priority": 5}


def test_there_and_back() -> None:
    given = JobOptions(name="n", priority=-3, tasks_per_child=7)
    assert JobOptions.from_map(given.to_map()) == given
    assert JobOptions.from_map({}) == JobOptions()


def test_every_option_has_a_bound_that_the_default_keeps() -> None:
    known = bounds.of_fields(JobOptions)
    assert set(known) == {field.name for field in fields(JobOptions)}
    for name, bound in known.items():
        assert bounds.check(bound)(getattr(JobOptions(), name)), name


def test_minus_zero_is_zero() -> None:
    given = JobOptions.from_map({"timeout": -0.0, "resources": {"cpus": -0.0}})
    assert math.copysign(1, given.timeout) == 1
    assert math.copysign(1, given.resources["cpus"]) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"colour": "red"},
        {"name": 5},
        {"name": "x" * (job_options.MAX_NAME_CHARS + 1)},
        {"priority": 1.5},
        {"priority": True},
        {"priority": 1_001},
        {"tasks_per_child": -1},
        {"tasks_per_child": "x" * 100_000},
        {"at_most_once": True, "retries": 1},
        {"at_most_once": True, "speculative": True},
        {"speculative": 1.5},
        {"keep": True, "durable": True},
        {"keep": True, "safe": True},
        {"timeout": math.nan},
        {"retry_delay": math.inf},
        {"deadline": 5e-324},
        {"deadline": -1},
        {"needs": [""]},
        {"needs": ["x"] * 33},
        {"after": ["x" * 65]},
        {"resources": {"cpus": 5e-324}},
        {"resources": {"cpus": 9e-7}},
        {"resources": {"cpus": 1.1e18}},
        {"resources": {"cpus": math.nan}},
        {"resources": {"cpus": True}},
        {"resources": {"": 1}},
        {"resources": {str(n): 1 for n in range(33)}},
        {"fetch_key": "A" * 64},
        {"x" * 256: 1},
    ],
)
def test_what_does_not_fit_is_refused_in_few_words(values: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as info:
        JobOptions.from_map(values)
    assert next(iter(values))[:80] in str(info.value)
    assert len(str(info.value)) < 200
