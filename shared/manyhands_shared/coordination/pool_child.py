"""What a pool child knows of its node: its slot, and the agent by which it joins programs."""

from __future__ import annotations

from collections.abc import Callable

#: The agent's address; empty in every other process. No variable of the environment: tasks own that.
agent_address = ""
#: The number of the child's slot on its node, from 0.
slot = 0
#: Brings what others have written to shared memory, and has what this process wrote leave. Called before
#: tasks run, and before their results leave. None where the child shares no memory.
sync_writes: Callable[[], None] | None = None
#: Takes back what tasks of a function keep in this process for those after them. Called before tasks of
#: another function run. None where they keep nothing.
leave_function: Callable[[], None] | None = None
