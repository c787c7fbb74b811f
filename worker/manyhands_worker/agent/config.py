"""What a host agent is started with: all that a node has to load to start one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from manyhands_worker.agent.core.identity import AgentIdentity

if TYPE_CHECKING:
    from manyhands_shared.security.role_key import Credentials


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent is started with."""

    identity: AgentIdentity
    #: The broker's addresses, and what to prove oneself with.
    broker: str
    key: Credentials | None
    #: A descriptor: leave at once when its other end is closed.
    lifeline: int | None = None
