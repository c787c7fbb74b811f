"""Objects whose keeper is in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.brokers.local_broker import Members, local_members


@pytest.fixture
def members() -> Iterator[Members]:
    """Members of one program: each thread may be one."""
    with local_members() as made:
        yield made
