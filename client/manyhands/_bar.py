"""A bar that says how far something is: on a terminal and in a notebook, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sized
from typing import Any, TypeVar

from manyhands import _html as html
from manyhands_shared.text import printable

T = TypeVar("T")

#: Says how many have ended so far.
Show = Callable[[int], None]
#: A notebook has this time to draw what it was sent.
_REDRAW_SECONDS = 0.1
_NEEDS_RICH = "manyhands: progress is shown by rich; run: pip install 'manyhands[command]'"


@contextlib.contextmanager
def bar(total: int | None, label: str = "") -> Iterator[Show]:
    """Give what shows how many have ended of `total`, or of a number that is not known.

    Where standard error is no terminal, and in no notebook, it shows nothing.
    """
    if _in_notebook():
        with _in_output_of_cell(total, label) as show:
            yield show
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _on_terminal(total, label) as show:
            yield show
    else:
        yield lambda _ended: None


def _in_notebook() -> bool:
    """Whether a kernel runs this. A program may have loaded `ipykernel` without being one."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextlib.contextmanager
def _in_output_of_cell(total: int | None, label: str) -> Iterator[Show]:
    """Show it as HTML that is replaced as tasks end: without any thread, and without rich.

    Of rich's own widget a thread catches what the cell prints meanwhile, and nothing draws its end.
    """
    from IPython.display import display  # noqa: PLC0415 - it is loaded

    begun, due, ended = time.monotonic(), 0.0, 0

    def drawn() -> dict[str, str]:
        return html.bar(label, ended, total, time.monotonic() - begun)

    def show(count: int) -> None:
        nonlocal due, ended
        ended = count
        if (now := time.monotonic()) >= due:
            due = now + _REDRAW_SECONDS
            shown.update(drawn(), raw=True)

    # It has no types.
    to_cell: Any = display
    shown = to_cell(drawn(), raw=True, display_id=True)
    try:
        yield show
    finally:
        shown.update(drawn(), raw=True)


@contextlib.contextmanager
def _on_terminal(total: int | None, label: str) -> Iterator[Show]:
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
