"""A task that wants to read the key of its node, by its name and through the node's process."""

from __future__ import annotations

import json
from pathlib import Path

import manyhands


def look() -> dict[str, str]:
    """What became of each attempt."""
    found = {}
    roots = [Path("/"), *(Path("/proc", process, "root") for process in ("1", "self"))]
    for place in (root / "keys/node.key" for root in roots):
        try:
            place.read_text()
            found[str(place)] = "read"
        except OSError as error:
            found[str(place)] = error.strerror or "refused"
    return found


if __name__ == "__main__":
    with manyhands.Executor() as executor:
        print(json.dumps(executor.submit(look).result(120)))
