"""What a child reports of a task beside the statuses of the protocol.

The core reads it and a child writes it, so it stands above both: a child does not load the core.
"""

from __future__ import annotations

#: The child did not run the task, because the node took it back.
REVOKED = 255
