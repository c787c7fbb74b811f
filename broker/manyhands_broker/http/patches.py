"""What has changed between two views, so that a page is sent that alone.

A patch of a map has three parts. Under ``s`` is what to set, and under ``d`` are the keys that are gone.
Under ``p`` are patches of the maps in it. Lists are set as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the patch that makes `new` of `old`; empty if they are equal."""
    patch: dict[str, Any] = {}
    gone = [key for key in old if key not in new]
    if gone:
        patch["d"] = gone
    changed: dict[str, Any] = {}
    inside: dict[str, Any] = {}
    for key, value in new.items():
        before = old.get(key, patch)
        if before == value and type(before) is type(value):
            continue
        if type(before) is dict and type(value) is dict and before is not patch:
            inside[key] = difference(before, value)
        else:
            changed[key] = value
    if changed:
        patch["s"] = changed
    if inside:
        patch["p"] = inside
    return patch
