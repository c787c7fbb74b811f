"""What a node declares of itself in its hello. What makes no sense is left out."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core.node import Node
from manyhands_broker.core.pressure import Machine


def declare(node: Node, info: dict[str, Any]) -> None:
    """Take over what a hello's `info` says. The node's slots have to be known."""
    node.info = info
    node.equip(_resources(info))
    node.labels = _labels(info)
    node.host_id = str(info.get("host_id", ""))
    node.machine = _machine(info)


def _resources(info: dict[str, Any]) -> dict[str, float]:
    said = info.get("resources")
    if not isinstance(said, dict):
        return {}
    return {
        name: float(amount)
        for name, amount in said.items()
        if isinstance(name, str) and type(amount) in (int, float) and amount >= 0
    }


def _labels(info: dict[str, Any]) -> frozenset[str] | None:
    """The labels that a node says it has; `None` if it says nothing of any."""
    said = info.get("labels")
    if not isinstance(said, list):
        return None
    return frozenset(label for label in said if isinstance(label, str))


def _machine(info: dict[str, Any]) -> Machine:
    reserve, cores = info.get("memory_reserve"), info.get("cores")
    return Machine(
        reserve if type(reserve) is int and reserve > 0 else 0,
        cores if type(cores) is int and cores > 0 else 1,
    )
