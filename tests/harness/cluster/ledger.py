"""The books of a run, judged like a queue in Jepsen.

*Lost* is what was acknowledged and not delivered; *unexpected* what was delivered and never submitted.
Runs of a task are counted, and may be several; accepted results must be one. The queue is drained
before anything is judged.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import manyhands


class Ledger:
    """What was submitted, acknowledged, run and delivered. Tasks are known by numbers."""

    def __init__(self, folder: Path) -> None:
        self.seed = int(os.environ.get("MANYHANDS_TEST_SEED") or random.randrange(1 << 30))
        self.random = random.Random(self.seed)
        print(f"seed {self.seed}")
        #: Tasks write their numbers here; give it to `run`.
        self.file = str(folder / "runs.txt")
        Path(self.file).touch()
        self.submitted: set[int] = set()
        self.acknowledged: set[int] = set()
        #: How often each was delivered, and with what.
        self.delivered: Counter[int] = Counter()
        self.results: dict[int, object] = {}
        self.conflicts: list[int] = []
        #: What failed, and how: tasks, and a `Customer` as a whole.
        self.failures: list[tuple[str, BaseException]] = []

    def hand_in(
        self, executor: manyhands.Executor, function: Callable[..., int], task: int, *args: Any
    ) -> Future[int]:
        """Submit ``function(file, task, *args)``, and book it and its result.

        An attached call counts as acknowledged when `submit` has taken it: the client holds it.
        """
        future = executor.submit(function, self.file, task, *args)
        self.submitted.add(task)
        self.acknowledged.add(task)
        future.add_done_callback(lambda done: self._ended(task, done))
        return future

    def hand_in_more(self, executor: manyhands.Executor, count: int, seconds: float) -> None:
        """Submit tasks that run for `seconds` each, numbered on from the last."""
        first = len(self.submitted)
        for task in range(first, first + count):
            self.hand_in(executor, work, task, seconds)

    def _ended(self, task: int, done: Future[int]) -> None:
        # What a callback raises is lost, so a failure is booked instead.
        error = CancelledError() if done.cancelled() else done.exception()
        if error is None:
            self.deliver(task, done.result())
        else:
            self.fail(f"task {task}", error)

    def fail(self, what: str, error: BaseException) -> None:
        """Book that something failed for good."""
        self.failures.append((what, error))

    def deliver(self, task: int, result: object) -> None:
        """A result came, for good."""
        self.delivered[task] += 1
        if self.results.setdefault(task, result) != result:
            self.conflicts.append(task)

    def check(self) -> None:
        """Assert that nothing has failed yet.

        Raises:
            AssertionError: something has; its cause is the first failure.
        """
        if self.failures:
            what, error = self.failures[0]
            said = f"seed {self.seed}: {len(self.failures)} failed; first: {what}: {error!r}"
            raise AssertionError(said) from error

    @property
    def drained(self) -> bool:
        """Whether everything that was acknowledged is delivered; raises once something has failed."""
        self.check()
        return self.delivered.keys() >= self.acknowledged

    def has_delivered(self, count: int) -> bool:
        """Whether `count` tasks are delivered; raises once something has failed."""
        self.check()
        return len(self.delivered) >= count

    def has_acknowledged(self, count: int) -> bool:
        """Whether `count` tasks are acknowledged; raises once something has failed."""
        self.check()
        return len(self.acknowledged) >= count

    @property
    def runs(self) -> Counter[int]:
        """How often each task was begun."""
        return Counter(map(int, Path(self.file).read_text().split()))

    def judge(self) -> str:
        """Assert that all is well; a line with the figures."""
        self.check()
        lost = self.acknowledged - self.delivered.keys()
        unexpected = self.delivered.keys() - self.submitted
        # A copy, taken in one step: a customer that goes on may deliver meanwhile.
        twice = [task for task, count in dict(self.delivered).items() if count > 1]
        runs = self.runs
        never_run = self.delivered.keys() - runs.keys()
        said = f"seed {self.seed}"
        assert not lost, f"{said}: {len(lost)} tasks lost: {sorted(lost)[:10]}"
        assert not unexpected, f"{said}: never submitted: {sorted(unexpected)[:10]}"
        assert not twice, f"{said}: delivered twice: {sorted(twice)[:10]}"
        assert not self.conflicts, f"{said}: two results: {self.conflicts[:10]}"
        assert not never_run, f"{said}: results of nothing: {sorted(never_run)[:10]}"
        again = sum(count - 1 for count in runs.values())
        return f"{said}: {len(self.delivered)} tasks, {again} run again, none lost, none twice"


def run(file: str, task: int) -> int:
    """What a task does: leave a trace that survives everything, and return its number."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, b"%d\n" % task)
    finally:
        os.close(descriptor)
    return task


def work(file: str, task: int, seconds: float) -> int:
    """Leave a trace, take some time."""
    done = run(file, task)
    threading.Event().wait(seconds)
    return done
