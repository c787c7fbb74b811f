"""Questions of the HTTP process, whatever becomes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

import pytest

from harness.threads import Worker
from manyhands_broker.http.inquiries import Inquiries


@pytest.fixture
def inquiries() -> Iterator[Inquiries]:
    with contextlib.closing(Inquiries()) as made:
        yield made


def asked(inquiries: Inquiries, answer: Any) -> str:
    """Ask for what `answer` says; why there is no answer."""
    asking = Worker(lambda: inquiries.ask("view", "jobs", {}, ""))
    assert wait([inquiries.broker_end], 60)
    inquiries.serve(lambda *_: answer)
    with pytest.raises(LookupError) as caught:
        asking.result()
    return str(caught.value)


def test_an_answer_that_cannot_be_sent_is_said_to_be_one(inquiries: Inquiries) -> None:
    for answer in (1 << 70, "\ud800", object()):
        assert "cannot be sent" in asked(inquiries, answer)
