"""What a program changes of the environment, which goes along to its processes on other hosts.

It is imported with the package: what is changed later is the program's work.
"""

from __future__ import annotations

import os


class _Start:
    """How this process began."""

    def __init__(self) -> None:
        #: What the program had changed before.
        self.changes: dict[str, str | None] = {}
        self.environment = dict(os.environ)


_start = _Start()


def changes() -> dict[str, str | None]:
    """Return what the program has changed so far; None is for what it has removed."""
    now, before = dict(os.environ), _start.environment
    changed: dict[str, str | None] = {
        name: text for name, text in now.items() if before.get(name) != text
    }
    changed.update({name: None for name in before if name not in now})
    return {**_start.changes, **changed}


def adopt(changed: dict[str, str | None]) -> None:
    """In a new process: change what the program had changed."""
    for name, text in changed.items():
        if text is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = text
    _start.changes, _start.environment = changed, dict(os.environ)
