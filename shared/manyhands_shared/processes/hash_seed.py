"""The seed of `hash(str)`, which is one for all children of a cluster.

Programs that share work out by `hash` need it: as in the children of one pool, a text has the same hash
in every task. The broker tells each node that joins; a script tells the cluster that it starts.
"""

from __future__ import annotations

import os
import secrets

#: How a script tells the processes that it starts. The environment is readable for its user alone.
VARIABLE = "MANYHANDS_HASH_SEED"
#: What Python takes.
_SEEDS = 1 << 32


class _Process:
    """What this process knows."""

    seed: int | None = None


def known() -> int | None:
    """Return the seed of this process's cluster, if it has been told."""
    if _Process.seed is None and (told := os.environ.pop(VARIABLE, None)) is not None:
        _Process.seed = int(told)
    return _Process.seed


def learn(seed: int) -> None:
    """Take the seed of the cluster, unless one is known: children have it already."""
    if known() is None:
        _Process.seed = seed


def choose(secret: bytes | None = None) -> int:
    """Return the seed for a new cluster.

    What the user has set for Python; else one that follows from the cluster's secret; else a random one.
    With a secret, a broker that starts again says the same.
    """
    wanted = os.environ.get("PYTHONHASHSEED", "")
    if wanted.isdecimal() and int(wanted) < _SEEDS:
        return int(wanted)
    if secret is None:
        return secrets.randbelow(_SEEDS - 1) + 1
    return int.from_bytes(secret[:8]) % (_SEEDS - 1) + 1
