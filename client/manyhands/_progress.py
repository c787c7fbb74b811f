"""`progress`: how far futures or a job are."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection
from concurrent.futures import Future
from typing import Any, TypeVar

from manyhands._bar import bar
from manyhands.job import Job

T = TypeVar("T", Job, Collection[Future[Any]])

_POLL_SECONDS = 0.1


def progress(what: T, *, label: str = "") -> T:
    """Wait until futures or all tasks of a job have ended, show how far they are, and return them.

    >>> futures = [executor.submit(pow, number, 2) for number in range(100)]  # doctest: +SKIP
    >>> for future in manyhands.progress(futures):  # doctest: +SKIP
    ...     print(future.result())

    It shows a bar on a terminal (on standard error) and in a notebook, and nothing elsewhere. What has
    failed counts as ended. Ctrl-C ends the waiting, and no task.

    Args:
        what: a collection of futures, or a job, durable ones too.
        label: stands before the bar.
    """
    if isinstance(what, Job):
        _of_job(what, label)
    else:
        _of_futures(what, label)
    return what


def _of_job(job: Job, label: str) -> None:
    with bar(job.tasks or None, label) as show:
        while True:
            show(job.count_ended())
            if job.wait(_POLL_SECONDS):
                break
        show(job.count_ended())


def _of_futures(futures: Collection[Future[Any]], label: str) -> None:
    total = len(futures)
    # The callbacks come from the I/O thread, or from this one.
    numbers, ended, over = itertools.count(1), 0, threading.Event()

    def count(_future: Future[Any]) -> None:
        nonlocal ended
        ended = next(numbers)
        if ended == total:
            over.set()

    for future in futures:
        future.add_done_callback(count)
    with bar(total, label) as show:
        while total and not over.wait(_POLL_SECONDS):
            show(ended)
        show(total)
