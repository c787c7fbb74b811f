"""A fake broker for every test of the client that wants one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.brokers.client_broker import FakeBroker


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as fake:
        yield fake
