"""Whether the task of this pool child waits for tasks: then its node may use its slot for others.

In every other process there is no task, and nothing is reported.
"""

from __future__ import annotations

from collections.abc import Callable

#: In a pool child: tells its node.
report: Callable[[bool], None] | None = None
_waiting: set[int] = set()


def note(session: int, *, waits: bool) -> None:
    """Note whether a session has tasks that have not ended."""
    if report is None or waits == (session in _waiting):
        return
    if waits:
        _waiting.add(session)
    else:
        _waiting.discard(session)
    report(bool(_waiting))
