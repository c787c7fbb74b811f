"""Hosts in network namespaces for the tests, where this machine can have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from manyhands.testbed import Network, unavailable

_REASON = unavailable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by name what cannot be had here."""
    if _REASON:
        for item in items:
            if "netns" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=_REASON))


@pytest.fixture
def network() -> Iterator[Callable[[int], Network]]:
    """Make networks of a number of hosts; all are gone after the test."""
    with ExitStack() as stack:
        yield lambda hosts: stack.enter_context(Network(hosts))
