"""Labels: what a node must be like to run a job's tasks, beyond having room for them.

A node says in its hello which labels it has; a job says in its options which its tasks need. The
broker compares the words and knows nothing of their meaning.

=============== ====================================================================================
``pickle``      the node loads pickles: every node but a safe one
``msgpack``     the node runs functions by their names, with msgpack arguments (`payloads.safe`)
``python=3.12`` its Python. Functions that travel by value hold bytecode, which no other minor
                version can run.
``cloudpickle=3`` the major version of what rebuilds such functions.
``environments`` the node makes environments for jobs with `requirements`.
=============== ====================================================================================

A job with requirements needs ``environment=DIGEST``, which no node says that it has. A node that makes
environments can have any; and while it makes that one, the broker gives it no more tasks that need it.
"""

from __future__ import annotations

import sys

PICKLE = "pickle"
MSGPACK = "msgpack"
ENVIRONMENTS = "environments"
_COMMON = frozenset((PICKLE, MSGPACK, "python", "cloudpickle"))
#: This process's Python, as versions are compared: bytecode changes with every minor version.
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def python(version: str = PYTHON) -> str:
    """The label of a Python, by its major and minor version."""
    return f"python={version}"


def cloudpickle(version: str) -> str:
    """The label of a cloudpickle, by its whole version."""
    return f"cloudpickle={version.partition('.')[0]}"


def environment(digest: bytes) -> str:
    """The label of the environment for requirements with this digest."""
    return f"environment={digest.hex()}"


def environments(digests: bytes) -> frozenset[str]:
    """The labels of environments by their digests, one behind the other."""
    return frozenset(environment(digests[at : at + 16]) for at in range(0, len(digests), 16))


def is_environment(label: str) -> bool:
    """Whether a label stands for an environment."""
    return label.startswith("environment=")


def of_node(cloudpickle_version: str, *, safe: bool, environments: bool = False) -> list[str]:
    """The labels of a node of this process's Python.

    Args:
        cloudpickle_version: of what is installed there; empty: nothing is.
        safe: it loads no pickles.
        environments: it makes environments, unless it is a safe one.
    """
    labels = [MSGPACK, python()]
    if not safe:
        labels.append(PICKLE)
        if cloudpickle_version:
            labels.append(cloudpickle(cloudpickle_version))
        if environments:
            labels.append(ENVIRONMENTS)
    return labels


def by_value(cloudpickle_version: str) -> tuple[str, ...]:
    """What a job needs whose function travels by value from this process."""
    return PICKLE, python(), cloudpickle(cloudpickle_version)


def is_common(label: str) -> bool:
    """Whether a label is one of those above, of whatever version."""
    return label.partition("=")[0] in _COMMON


def lacking(label: str) -> str:
    """What it means that no node has a label that a job needs, for people."""
    name, _, version = label.partition("=")
    meanings = {
        "pickle": "every node is a safe one, and the job was not submitted as safe",
        "msgpack": "no node runs functions by name, as safe jobs want it",
        "python": f"no node runs Python {version}, which its function, sent by value, needs",
        "environment": "no node makes the environment that its tasks require: each is a safe one, or "
        "was started with --no-environments",
        "cloudpickle": f"no node has cloudpickle {version}, which its function, sent by value, needs",
    }
    return meanings.get(name, f"no node has the label {label}")
