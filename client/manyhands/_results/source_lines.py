"""Lines of source in the traceback of a task: of functions that the node has no file of.

A node formats the traceback. It has no source of the script, the notebook or the prompt that a
function comes from by value. This program has it.
"""

from __future__ import annotations

import linecache
import re
import sys

_FRAME = re.compile(r'  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in ')
_INDENT = "    "


def with_source(text: str) -> str:
    """Return a traceback with the lines of source that it lacks and that this program has."""
    lines = text.split("\n")
    completed: list[str] = []
    known: set[str] | None = None
    for place, line in enumerate(lines):
        completed.append(line)
        found = _FRAME.match(line)
        following = lines[place + 1] if place + 1 < len(lines) else ""
        if found is None or following.startswith(_INDENT):
            continue
        if known is None:
            known = _files()
        if found["file"] in known:
            source = linecache.getline(found["file"], int(found["line"])).strip()
            if source:
                completed.append(_INDENT + source)
    return "\n".join(completed)


def _files() -> set[str]:
    """Return the files whose code this program runs, and what stands for them at a prompt."""
    modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return {file for file in modules if file} | set(linecache.cache)
