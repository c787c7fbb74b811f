"""The scheduler's figures for the loop around it and for HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manyhands_broker.core.queries import autoscaling

if TYPE_CHECKING:
    from manyhands_broker.core.transitions import Book


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one moment.

    Args:
        cluster: the cluster as a whole; see `autoscaling.summary`.
        problems: what keeps the broker from taking work, one sentence each.
        budgets: the used part of each budget, by the key that uses most of it.
        counters: what was counted since the start.
    """

    cluster: dict[str, Any]
    problems: list[str]
    budgets: dict[str, float]
    counters: dict[str, int]


def stats(book: Book) -> Stats:
    """Return the figures of this moment."""
    return Stats(
        autoscaling.summary(book),
        autoscaling.problems(book),
        book.ledgers.used(),
        dict(book.counters),
    )
