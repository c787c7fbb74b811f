"""What a node declares of itself in its hello. What makes no sense is left out."""

from __future__ import annotations

from itertools import islice
from typing import Any

from manyhands_broker.core.model.machine import Machine
from manyhands_broker.core.model.node import Node
from manyhands_shared.protocol import bounds
from manyhands_shared.protocol.job_options import MAX_AMOUNT, MAX_RESOURCES, MIN_AMOUNT

#: The most cores that one machine is believed to have, and bytes that it wants to keep.
_MAX_CORES, _MAX_RESERVE = 65_536, 1 << 47

#: Labels of a node, and characters of each and of a resource's name; a job may ask for no longer ones.
_MOST_LABELS, _MOST_CHARS = 64, 200


def declare(node: Node, info: dict[str, Any]) -> None:
    """Take over what a hello's `info` says. The node's slots have to be known."""
    node.info = info
    node.equip(_resources(info))
    node.labels = _labels(info)
    # It says so anew behind each welcome.
    node.making = node.made = node.failing = frozenset()
    node.host_id = str(info.get("host_id", ""))
    node.machine = _machine(info)


def _resources(info: dict[str, Any]) -> dict[str, float]:
    said = info.get("resources")
    if not isinstance(said, dict):
        return {}
    sound = {
        name: amount + 0.0
        for name, amount in said.items()
        if _is_name(name) and bounds.are_amounts([amount], MIN_AMOUNT, MAX_AMOUNT)
    }
    return dict(list(sound.items())[:MAX_RESOURCES])


def _labels(info: dict[str, Any]) -> frozenset[str] | None:
    """Return the labels that a node says it has; `None` if it says nothing of any."""
    said = info.get("labels")
    if not isinstance(said, list):
        return None
    return frozenset(islice(filter(_is_name, said), _MOST_LABELS))


def _is_name(said: Any) -> bool:
    return isinstance(said, str) and 0 < len(said) <= _MOST_CHARS


def _machine(info: dict[str, Any]) -> Machine:
    reserve, cores = info.get("memory_reserve"), info.get("cores")
    return Machine(
        reserve if type(reserve) is int and 0 < reserve <= _MAX_RESERVE else 0,
        cores if type(cores) is int and 0 < cores <= _MAX_CORES else 1,
    )
