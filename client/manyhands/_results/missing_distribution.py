"""What to install where a task found no module that this program has."""

from __future__ import annotations

import importlib.metadata
import re

_NO_MODULE = re.compile(r"No module named '([^']+)'")


def advice_for(error: BaseException) -> str:
    """Return one sentence that names the distribution; empty if this program does not have it either."""
    found = _NO_MODULE.search(str(error))
    if not isinstance(error, ModuleNotFoundError) or found is None:
        return ""
    module = found[1].partition(".")[0]
    owners = importlib.metadata.packages_distributions().get(module)
    if not owners:
        return ""
    version = importlib.metadata.version(owners[0])
    return (
        f"{module} is not installed where the task ran, and this client has {owners[0]} {version}: "
        f"run `pip install {owners[0]}=={version}` on the nodes"
    )
