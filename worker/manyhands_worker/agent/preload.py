"""Imported once by a fork server that a host agent is about to be forked from.

The fork server loads this beside its node, which takes longer to load. So the agent is there as soon as
the node is. What forks members has what they need, too, without loading it itself.
"""

from __future__ import annotations

import manyhands_worker.agent.agent
import manyhands_worker.agent.members
import manyhands_worker.agent.process  # noqa: F401 - to have it loaded is the point, and those above
from manyhands_worker.agent.member_server import load_modules

load_modules()
