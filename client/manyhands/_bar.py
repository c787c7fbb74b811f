"""A bar that says how far something is: on a terminal and in a notebook, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sized
from typing import Any, TypeVar

from manyhands_shared.text import printable

T = TypeVar("T")

#: Says how many have ended so far.
Show = Callable[[int], None]
_NEEDS_RICH = "manyhands: progress is shown by rich; run: pip install 'manyhands[command]'"


@contextlib.contextmanager
def bar(total: int | None, label: str = "") -> Iterator[Show]:
    """Give what shows how many have ended of `total`, or of a number that is not known.

    Where standard error is no terminal, and in no notebook, it shows nothing.
    """
    in_notebook = "ipykernel" in sys.modules
    is_live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if not (in_notebook or is_live):
        yield lambda _ended: None
        return
    try:
        # 60 ms that others need not pay.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ModuleNotFoundError:
        print(_NEEDS_RICH, file=sys.stderr)
        yield lambda _ended: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(printable(label), total=total)
        yield lambda ended: shown.update(task, completed=ended)


def counted(results: Iterator[T], total: int | None, label: str = "") -> Iterator[T]:
    """Yield results, and show how many have come."""
    with bar(total, label) as show:
        show(0)
        for ended, result in enumerate(results, 1):
            show(ended)
            yield result


def length(*iterables: Any) -> int | None:
    """Return how many rows they give side by side; `None` if one of them does not say."""
    if not all(isinstance(one, Sized) for one in iterables):
        return None
    return min((len(one) for one in iterables), default=0)
