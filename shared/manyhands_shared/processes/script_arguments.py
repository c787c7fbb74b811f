"""The arguments of the script whose tasks this process runs, for its children's `sys.argv`."""

from __future__ import annotations

#: As the script has them; None for a node that no script has started.
argv: list[str] | None = None
