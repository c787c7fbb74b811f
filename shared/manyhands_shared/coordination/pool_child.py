"""The agent by which a pool child joins the programs whose objects it is sent."""

from __future__ import annotations

#: The agent's address; empty in every other process. No variable of the environment: tasks own that.
agent_address = ""
