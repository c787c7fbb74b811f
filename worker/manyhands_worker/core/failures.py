"""Failures that a node itself ends tasks with."""

from __future__ import annotations

from manyhands_shared.protocol.failure import ENVIRONMENT_FAILED, MEMORY_EXCEEDED, Failure
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.events import Died
from manyhands_worker.core.model import Rules

ONCE = "tasks of its job may run at most once"
NOT_SAFE = Failure(
    "builtins.PermissionError",
    "this node is a safe one: it runs functions on its list alone, and loads no pickles; "
    "submit with safe=True",
    bases=("PermissionError", "OSError"),
)
NO_ENVIRONMENTS = Failure(
    "builtins.PermissionError",
    "this node was started with --no-environments: it installs nothing for jobs",
    bases=("PermissionError", "OSError"),
)
CANCELLED = Failure("concurrent.futures.CancelledError", "the task was cancelled")


def refusal(rules: Rules, *, safe: bool, environments: bool) -> Failure | None:
    """Return why tasks with these rules may not run on a node; None if they may."""
    if safe and not rules.safe:
        return NOT_SAFE
    return NO_ENVIRONMENTS if rules.requirements and not environments else None


def no_environment(node: str, reason: str) -> Failure:
    """Return how tasks end whose environment cannot be made."""
    return Failure(
        ENVIRONMENT_FAILED,
        f"node {node} cannot make the environment that the tasks require: {reason}",
    )


def of_death(event: Died, text: str, attempt: int, node: str) -> tuple[Status, Failure]:
    """Return how the task ends whose child died of it; `text` says what happened."""
    if event.timeout:
        text = f"ran longer than its timeout of {event.timeout:g} s and was killed on node {node}"
        return Status.TIMED_OUT, Failure("manyhands.TaskTimeout", text)
    limit, used = event.memory
    if used:
        had = f"had {_size(used)} of memory, more" if used > limit else "wanted more memory"
        text = f"{had} than its limit of {_size(limit)}, and was killed on node {node}"
        return Status.RAISED, Failure(MEMORY_EXCEEDED, text, bases=("MemoryError",))
    story = (f"attempt {attempt}: {text}",)
    return Status.CRASHED, Failure("manyhands.TaskCrashed", text, story=story)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
