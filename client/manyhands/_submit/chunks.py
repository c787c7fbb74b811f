"""What is mapped over, in parts that travel as one task each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any


def chunks(items: Iterable[Any], size: int) -> Iterator[Any]:
    """Slices of what can be sliced cheaply; a range stays a range, whatever its length."""
    if type(items) in (list, tuple, range):
        for start in range(0, len(items), size):  # type: ignore[arg-type]
            yield items[start : start + size]  # type: ignore[index]
        return
    iterator = iter(items)
    while chunk := tuple(islice(iterator, size)):
        yield chunk
