"""Who a host agent is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who an agent is: what its hello says. `capacity` 0 is a root's own, which leaves with its root."""

    agent: bytes
    host: str
    node: str
    boot_id: bytes
    address: str
    capacity: int
    drain_timeout: float = 30.0
    info: Mapping[str, Any] = field(default_factory=dict)
