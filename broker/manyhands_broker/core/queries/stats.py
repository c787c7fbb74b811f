"""The scheduler's figures for the loop around it and for HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from manyhands_broker.core.queries import autoscaling
from manyhands_broker.core.state.scheduler_state import SchedulerState


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


def stats(state: SchedulerState) -> Stats:
    """Return the figures of this moment."""
    return Stats(
        autoscaling.summary(state),
        autoscaling.problems(state),
        state.ledgers.used(),
        dict(state.counters),
    )


def cluster_figures(state: SchedulerState) -> tuple[float, ...]:
    """Return the figures that are sampled of the cluster: see `histories.CLUSTER_COLUMNS`."""
    counters = state.counters
    return (
        counters["tasks_done"],
        counters["tasks_failed"],
        counters["tasks_cancelled"],
        state.queued,
        sum(min(node.active, node.slots) for node in state.fleet),
        state.fleet.slots,
    )
