"""Failures that a node itself ends tasks with."""

from __future__ import annotations

from manyhands_shared.protocol.failure import Failure

ONCE = "tasks of its job may run at most once"
NOT_SAFE = Failure(
    "builtins.PermissionError",
    "this node is a safe one: it runs functions on its list alone, and loads no pickles; "
    "submit with safe=True",
    bases=("PermissionError", "OSError"),
)
CANCELLED = Failure("concurrent.futures.CancelledError", "the task was cancelled")
