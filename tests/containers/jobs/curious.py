"""A task that wants to read the key of its node, by its name and through the node's process."""

from __future__ import annotations

import json
from pathlib import Path

import manyhands


def look() -> dict[str, str]:
    """What became of each attempt."""
    found = {}
    for place in ("/keys/node.key", "/proc/1/root/keys/node.key", "/proc/self/root/keys/node.key"):
        try:
            Path(place).read_text()
            found[place] = "read"
        except OSError as error:
            found[place] = error.strerror or "refused"
    return found


if __name__ == "__main__":
    with manyhands.Executor() as executor:
        print(json.dumps(executor.submit(look).result(120)))
