"""The numbers that the coordinator decides by. Times in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CoordinationLimits:
    """See `manyhands_shared.config.BrokerConfig` for those that operators set."""

    lease: float = 15.0
    #: How long the members of a program outlive the silence of its root's host.
    session_grace: float = 60.0
    #: Bytes of all objects, items and unread responses, of all programs.
    coordination_bytes: int = 1 << 30
    #: Seconds within which unsynchronised writes of a host are brought to the others.
    freshness: float = 0.05
    #: Objects, segments and members of one program.
    program_objects: int = 262_144
    program_members: int = 10_000
    #: What one key may have: agents and programs.
    key_agents: int = 4_096
    key_programs: int = 4_096
    #: Processes of one host, where its node does not say how many.
    host_processes: int = 1_000
    #: A node that was told to start its agent has this long until the agent is here.
    agent_wait: float = 15.0
    #: Between SIGTERM and SIGKILL for what a program leaves behind.
    kill_after: float = 5.0
    #: A parent hears of an end behind what the member wrote; after this time also without that.
    output_wait: float = 10.0
    #: A client's announcement of a program waits this time for the program.
    announced: float = 60.0

    @property
    def renew_interval(self) -> float:
        """How often agents renew: four chances within a lease."""
        return self.lease / 4
