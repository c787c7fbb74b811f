"""The link to the broker as a core knows it: its phases, renewals and lease."""

from __future__ import annotations

import math

from manyhands_worker.core.leased_link import WELCOME_SECONDS, LeasedLink, Phase


def welcomed(now: float = 10.0) -> LeasedLink:
    link = LeasedLink()
    link.greeted(now)
    link.welcomed(6.0, 2.0)
    return link


def test_a_hello_without_an_answer_is_given_up() -> None:
    link = LeasedLink()
    assert (link.phase, link.due) == (Phase.DOWN, math.inf)
    link.greeted(10.0)
    assert (link.phase, link.due) == (Phase.GREETING, 10.0 + WELCOME_SECONDS)
    assert link.fault(9.9 + WELCOME_SECONDS) == ""
    assert link.fault(10.0 + WELCOME_SECONDS) == "no answer to the hello"


def test_a_lease_counts_from_the_hello() -> None:
    link = welcomed()
    assert link.is_ready
    assert link.due == 12.0
    assert [link.renewal_is_due(now) for now in (11.9, 12.0)] == [False, True]
    assert link.fault(15.9) == ""
    assert link.fault(16.0) == "the lease was not renewed for 6 s"


def test_a_lease_is_extended_from_when_the_renewal_was_sent() -> None:
    link = welcomed()
    first, second = link.renew(12.0), link.renew(14.0)
    assert link.due == 16.0
    assert link.extended(second)
    assert link.leased_at == 14.0
    assert not link.extended(first), "an answer to a later one answers it too"
    assert not link.extended(second)
    assert not link.extended(99)
    assert link.leased_at == 14.0


def test_a_new_link_forgets_the_renewals_of_the_old_one() -> None:
    link = welcomed()
    old = link.renew(12.0)
    link.lost()
    assert link.due == math.inf
    assert not link.renewal_is_due(99.0)
    assert link.fault(99.0) == ""
    link.greeted(20.0)
    link.welcomed(6.0, 2.0)
    assert not link.extended(old)
    assert link.leased_at == 20.0
    assert link.renew(22.0) > old
