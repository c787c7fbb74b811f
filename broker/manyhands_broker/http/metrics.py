"""The figures of the snapshot as Prometheus metrics.

Names follow its conventions: the prefix `manyhands_`, base units, `_total` for what only rises. No
label has a value for each job, task, client or node: a time series lives for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from manyhands_broker.core.model.quotas import BUDGETS

#: Metric → what it is, and the figure that it shows.
GAUGES = {
    "manyhands_tasks_queued": ("Tasks that no node has.", "queued"),
    "manyhands_tasks_active": ("Tasks that nodes have, running and waiting there.", "active"),
    "manyhands_jobs": ("Jobs that are not over.", "jobs"),
    "manyhands_sessions": ("Clients, present or within their grace.", "sessions"),
    "manyhands_slots": ("Slots of nodes that take work.", "slots"),
    "manyhands_slots_busy": ("Slots that run a task.", "running"),
    "manyhands_slots_wanted": (
        "Slots that would be done with all work in a minute, one a task at most.",
        "slots_wanted",
    ),
    "manyhands_nodes_cpu_cores": ("Cores that all nodes use, by their heartbeats.", "node_cpu"),
    "manyhands_nodes_resident_bytes": (
        "Memory that all nodes use, by their heartbeats.",
        "node_resident",
    ),
    "manyhands_broker_resident_bytes": ("Memory that the broker uses.", "resident"),
    "manyhands_broker_start_time_seconds": ("When the broker started, in Unix time.", "started"),
}
#: Metric (without `_total`) → what it is, the name of its label, and label value → counter of the core.
COUNTERS = {
    "manyhands_tasks_submitted": ("Tasks taken.", "", {"": "tasks_submitted"}),
    "manyhands_jobs_submitted": ("Jobs taken.", "", {"": "jobs_submitted"}),
    "manyhands_submissions_rejected": ("Submissions refused.", "", {"": "rejected_submissions"}),
    "manyhands_tasks_ended": (
        "Tasks that ended, by how.",
        "state",
        {"done": "tasks_done", "failed": "tasks_failed", "cancelled": "tasks_cancelled"},
    ),
    "manyhands_tasks_requeued": (
        "Times that a task was queued again, by why.",
        "reason",
        {"returned": "tasks_returned", "retried": "tasks_retried"},
    ),
    "manyhands_tasks_speculated": (
        "Slow tasks that were given to a second node as well.",
        "",
        {"": "tasks_speculated"},
    ),
    "manyhands_speculations_won": (
        "Tasks whose second run was the first to end.",
        "",
        {"": "speculations_won"},
    ),
    "manyhands_child_deaths": ("Deaths of processes that ran a task.", "", {"": "child_deaths"}),
    "manyhands_tasks_quarantined": (
        "Tasks that ended too many processes to be run again.",
        "",
        {"": "tasks_quarantined"},
    ),
    "manyhands_results_stale": (
        "Results of attempts that no longer counted.",
        "",
        {"": "stale_results"},
    ),
    "manyhands_nodes_joined": ("Nodes that came in.", "", {"": "nodes_joined"}),
    "manyhands_nodes_gone": (
        "Nodes that are gone: left in good order, or given up.",
        "how",
        {"left": "nodes_left", "lost": "nodes_condemned"},
    ),
    "manyhands_nodes_suspected": (
        "Times that heartbeats stayed away.",
        "",
        {"": "suspicions"},
    ),
    "manyhands_connections_shut": (
        "Connections that did not say hello in time, or were too many.",
        "",
        {"": "connections_shut"},
    ),
    "manyhands_refusals": (
        "Requests refused because their key would have gone beyond a budget, by which.",
        "budget",
        {budget: f"refused_{budget}" for budget in BUDGETS},
    ),
    "manyhands_messages_dropped": (
        "Messages that were not acted on, by why.",
        "reason",
        {
            "invalid": "invalid_messages",
            "unexpected": "unexpected_messages",
            "stranger": "strangers",
            "internal-error": "internal_errors",
        },
    ),
}
#: The same of programs of several processes, and their counters; zero where there are none.
COORDINATION_GAUGES = {
    "manyhands_programs": ("Programs of several processes.", "programs"),
    "manyhands_members": ("Processes of programs, roots too.", "members"),
    "manyhands_host_agents": ("Host agents, present or within their lease.", "host_agents"),
    "manyhands_shared_objects": ("Locks, queues and the like of programs.", "shared_objects"),
    "manyhands_coordination_bytes": (
        "What they and their items count for, of --coordination-bytes.",
        "coordination_bytes",
    ),
}
COORDINATION_COUNTERS = {
    "manyhands_members_started": ("Processes that were placed on a host.", "members_placed"),
    "manyhands_members_refused": ("Processes that no host could take.", "starts_refused"),
    "manyhands_members_ended": ("Processes of programs that ended.", "members_ended"),
    "manyhands_host_agents_lost": (
        "Host agents that died, or lost their lease.",
        "agents_lost",
    ),
    "manyhands_locks_abandoned": (
        "Locks that were passed on because their holder died.",
        "locks_abandoned",
    ),
}
#: Counters of the core that go into the snapshot.
COUNTED = [counter for _, _, series in COUNTERS.values() for counter in series.values()]


class Figures(Collector):
    """Turns one reading of the snapshot into metrics."""

    def __init__(self, figures: dict[str, Any], up: bool) -> None:
        self._figures = figures
        self._up = up

    def collect(self) -> Iterator[Metric]:
        """Every metric, with its present value."""
        yield GaugeMetricFamily(
            "manyhands_up", "Whether the broker's loop turns.", value=float(self._up)
        )
        figures = self._figures
        if not figures:
            return
        info = GaugeMetricFamily(
            "manyhands_info", "The broker's version.", labels=["version", "python"]
        )
        info.add_metric([figures["version"], figures["python"]], 1.0)
        yield info
        ready = GaugeMetricFamily("manyhands_ready", "Whether the broker takes work.")
        ready.add_metric([], float(not figures["problems"]))
        yield ready
        nodes = GaugeMetricFamily("manyhands_nodes", "Nodes by state.", labels=["state"])
        for state, count in figures["nodes"].items():
            nodes.add_metric([state], count)
        yield nodes
        used = GaugeMetricFamily(
            "manyhands_budget_used_ratio",
            "Part of a budget that is used by the key that uses most of it, by which.",
            labels=["budget"],
        )
        for budget, part in figures["budgets"].items():
            used.add_metric([budget], part)
        yield used
        for name, (text, figure) in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=figures[figure])
        for name, (text, label, series) in COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=[label] if label else [])
            for value, counter in series.items():
                family.add_metric([value] if label else [], figures["counters"][counter])
            yield family
        yield from _of_programs(figures["coordination"])
        yield CounterMetricFamily(
            "manyhands_broker_cpu_seconds",
            "Processor time that the broker has used.",
            value=figures["cpu_seconds"],
        )


def _of_programs(figures: dict[str, Any]) -> Iterator[Metric]:
    for name, (text, figure) in COORDINATION_GAUGES.items():
        yield GaugeMetricFamily(name, text, value=figures.get(figure, 0))
    counters = figures.get("counters", {})
    for name, (text, counter) in COORDINATION_COUNTERS.items():
        yield CounterMetricFamily(name, text, value=counters.get(counter, 0))
    operations = CounterMetricFamily(
        "manyhands_coordination_operations",
        "Operations on locks, queues and the like, by which.",
        labels=["operation"],
    )
    for operation, count in figures.get("operations", {}).items():
        operations.add_metric([operation], count)
    yield operations
