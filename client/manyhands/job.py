"""`Job`: an array of tasks under one id."""

from __future__ import annotations

import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from manyhands import _html as html
from manyhands._io.io_thread import IOThread
from manyhands._io.open_job import OpenJob
from manyhands._results.inbox import BoundedInbox, Inbox
from manyhands._results.outcome import outcome
from manyhands_shared.errors import ManyhandsError, TaskLost
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol.messages import Function
from manyhands_shared.text import amount

#: What the broker says of a job that is over.
ENDED_STATES = ("done", "failed", "cancelled")
_QUERY_SECONDS = 30.0
#: Silence after which the client asks about a durable job.
_SILENCE_SECONDS = 2.0
# Between two queries for a job whose end a caller awaits without its results.
_FIRST_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.5
# The least time that the broker gets to answer, however short the wait.
_ANSWER_SECONDS = 0.5


class Job:
    """Stand for an array job. Iterating yields `(index, value or exception)` as tasks end, each once.

    `id` is the job's name at the broker, `tasks` the number of its tasks.
    """

    def __init__(self, io: IOThread, job_id: str, inbox: Inbox) -> None:
        self.id = job_id
        self.tasks = 0
        self._io = io
        self._inbox = inbox
        self._safe = False  # whether results are msgpack, and no pickle is to be loaded
        self._trusted = True  # whether pickles may be loaded that can run code

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} tasks={self.tasks} ended={self.ended}>"

    def _repr_html_(self) -> str:
        """Show what the broker tells of it, in a notebook."""
        try:
            info = self._ask_within(html.ANSWER_SECONDS, "job")
        except (ManyhandsError, TimeoutError) as error:
            return html.card(f"Job {self.id}", [("tasks", self.tasks), ("broker", error)])
        rows = [(name, info[name]) for name in ("name", "function", "state", "tasks")]
        rows += [(name, info[name] or None) for name in ("queued", "active", "failed")]
        return html.card(f"Job {self.id}", [*rows, ("owner", info["owner"])], info)

    def count_ended(self) -> int:
        """Return how many of its tasks have ended."""
        return self.ended

    @property
    def ended(self) -> int:
        """Return how many of its tasks are known here to have ended."""
        return self._inbox.ended

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        self._begin()
        while (arrival := self._next()) is not None:
            index, status, body = arrival
            value, error = outcome(status, body, safe=self._safe, trusted=self._trusted)
            yield index, value if error is None else error

    def results(self) -> list[Any]:
        """Return every task's value, in order. Takes the place of iterating.

        Raises:
            Exception: of the first task, by number, that failed.
        """
        values: dict[int, Any] = {}
        failures: dict[int, BaseException] = {}
        for index, value in self:
            (failures if isinstance(value, BaseException) else values)[index] = value
        if failures:
            raise failures[min(failures)]
        return [values[index] for index in sorted(values)]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait `timeout` seconds at most; return whether every task has ended."""
        with self._inbox.changed.lock:
            return self._inbox.changed.wait_for(self._is_over, timeout)

    def cancel(self) -> None:
        """Cancel what has not ended; it comes back as `CancelledError`."""
        self._io.call(self._io.registry.cancel_other, self.id)

    # What the broker knows and does -------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Return what the broker tells of it: ``state``, ``tasks``, ``queued``, ``failed`` …

        Raises:
            Refused: the broker does not know it (any more).
        """
        data: dict[str, Any] = self._ask("job")
        return data

    def state(self) -> str:
        """Return its state: open, queued, waiting, paused, running, done, failed or cancelled."""
        return str(self.info()["state"])

    def why(self) -> list[str]:
        """Return why tasks of it wait, a sentence for each reason; empty if none wait.

        Raises:
            Refused: it is over, or unknown.
        """
        reasons: list[str] = self._ask("why")
        return reasons

    def pause(self) -> None:
        """Start no more of its tasks until `resume`. What runs goes on."""
        self._ask("pause")

    def resume(self) -> None:
        """Go on after `pause`."""
        self._ask("resume")

    def output(
        self, limit: int = 1_000, *, after: int | None = None, task: int | None = None
    ) -> list[dict[str, Any]]:
        """Return what tasks of a durable job printed last: ``index``, ``attempt`` and ``text``.

        Args:
            limit: the number of texts, at most.
            after: the ``position`` of a text: return the first ones behind it, not the last ones.
            task: the index of a task: return its texts alone.

        Raises:
            Refused: the broker does not know the job.
            NotAuthorised: the job is not yours, and your key is not an admin's.
        """
        asked = {"limit": limit, "after": after, "task": task}
        given = {name: value for name, value in asked.items() if value is not None}
        lines: list[dict[str, Any]] = self._ask("output", **given)
        return lines

    def forget(self) -> None:
        """Have the broker delete a durable job that is over, with its results.

        Raises:
            Refused: it is not over, or another job needs its results.
        """
        self._ask("forget")

    def retry_failed(self) -> Job:
        """Have the broker run tasks that failed once more, as a new durable job with the same options.

        Its tasks are numbered from 0, in the order of those that they repeat.

        Raises:
            Refused: this job is not durable or not over.
            ValueError: no task of it failed.
        """
        if self.state() == "done":
            raise ValueError(f"no task of job {self.id} failed")
        # The question may reach the broker twice, if the link is lost meanwhile.
        again = self._ask("retry", new_id=secrets.token_hex(8))
        job = DurableJob(self._io, again["id"])
        job.refresh()
        return job

    # Inside -------------------------------------------------------------------------------------

    def _ask(self, what: str, **arguments: Any) -> Any:
        return self._ask_within(_QUERY_SECONDS, what, **arguments)

    def _ask_within(self, seconds: float | None, what: str, **arguments: Any) -> Any:
        """Ask the broker. Without a limit it may be away meanwhile: it is asked when it is back."""
        return self._io.ask(what, {"id": self.id, **arguments}).result(seconds)

    def _begin(self) -> None:
        """Have the broker send the results: a caller wants them."""

    def _next(self) -> tuple[int, int, Payload] | None:
        """The next task that ended: its index, status and payload; `None` after the last."""
        inbox = self._inbox
        with inbox.changed.lock:
            inbox.changed.wait_for(lambda: inbox.arrived or self._is_over())
            if inbox.arrived:
                return inbox.take()
            if inbox.error is not None and inbox.ended < self.tasks:
                raise inbox.error
            return None

    def _is_over(self) -> bool:
        return self._inbox.error is not None or self._inbox.ended >= self.tasks


class AttachedJob(Job):
    """A job of this session alone."""

    def __init__(self, io: IOThread, function: Function, options: dict[str, Any]) -> None:
        inbox = Inbox()
        self._job = OpenJob(function, options, inbox)
        super().__init__(io, self._job.id, inbox)
        self._safe = bool(options.get("safe"))
        self._closed = False
        io.call(io.registry.open, self._job)

    def add(self, payload: Payload) -> None:
        """One more task."""
        self._io.queue.put(self._job, None, payload)
        self.tasks += 1

    def close(self) -> None:
        """That was the last."""
        self._io.call(self._io.registry.close, self._job)
        with self._inbox.changed.lock:
            self._closed = True
            self._inbox.changed.notify_all()

    def cancel(self) -> None:
        """Cancel what has not ended; it comes back as `CancelledError`."""
        self._io.call(self._io.registry.cancel, self._job)

    def _is_over(self) -> bool:
        # Before the last has been added, all that are there may have ended.
        return self._inbox.error is not None or (self._closed and super()._is_over())


class DurableJob(Job):
    """Stand for a job in the broker's journal, which sends its results once a caller asks for them.

    Each iteration from the beginning gives every result again.
    """

    def __init__(self, io: IOThread, job_id: str, *, trust: bool = False) -> None:
        super().__init__(io, job_id, Inbox())
        self._trust = trust  # also where another key's owner submitted it
        self._open = True
        self._following: weakref.finalize[Any, Any] | None = None
        self._quiet: tuple[str, int] | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every task has ended, `timeout` seconds at most; whether they have.

        The results stay with the broker.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, interval = threading.Event(), _FIRST_POLL_SECONDS
        while not self._has_ended(deadline):
            left = interval if deadline is None else min(interval, deadline - time.monotonic())
            if left <= 0:
                return False
            pause.wait(left)
            interval = min(2 * interval, _LONGEST_POLL_SECONDS)
        return True

    def count_ended(self) -> int:
        """Return how many of its tasks the broker says have ended; those known here while it is away."""
        try:
            info = self._ask_within(_QUERY_SECONDS, "job")
        except TimeoutError as error:
            if is_from_handler(error):
                raise
            return self.ended
        return sum(int(info[name]) for name in ("done", "failed", "cancelled"))

    def _has_ended(self, deadline: float | None) -> bool:
        """Whether the broker says so; false if it has not answered in time."""
        left = None
        if deadline is not None:
            left = max(_ANSWER_SECONDS, deadline - time.monotonic())
        try:
            return self._ask_within(left, "job")["state"] in ENDED_STATES
        except TimeoutError as error:
            if is_from_handler(error):
                raise
            return False

    def cancel(self) -> None:
        """Cancel what has not ended, also after this client has gone; nothing if it is over."""
        if self.state() not in ENDED_STATES:
            self._ask("cancel")

    def refresh(self, seconds: float | None = _QUERY_SECONDS) -> dict[str, Any]:
        """Ask for `tasks` again, and wait `seconds` for the answer; what `info` gives."""
        info: dict[str, Any] = self._ask_within(seconds, "job")
        self.tasks, self._open = int(info["tasks"]), bool(info["open"])
        self._safe = bool(info["options"].get("safe"))
        self._trusted = self._trust or bool(info.get("trusted"))
        return info

    def _begin(self) -> None:
        if self._following is None or not self._following.alive:
            self.refresh(None)
            inbox = self._inbox = self._new_inbox()
            self._quiet = None
            self._io.call(self._io.registry.subscribe, self.id, inbox)
            self._following = weakref.finalize(
                self, self._io.call, self._io.registry.unsubscribe, self.id, inbox
            )
            self._following.atexit = False  # the session ends, and all of this with it

    def _new_inbox(self) -> Inbox:
        io, job_id = self._io, self.id
        inbox = BoundedInbox(lambda pause: io.call(io.registry.pause_results, job_id, inbox, pause))
        return inbox

    def _next(self) -> tuple[int, int, Payload] | None:
        inbox = self._inbox
        while True:
            with inbox.changed.lock:
                inbox.changed.wait_for(lambda: inbox.arrived or self._is_over(), _SILENCE_SECONDS)
                if inbox.arrived:
                    return inbox.take()
                if self._is_over():
                    break
            self._look_after(inbox)
        self._end_following()
        if inbox.error is not None and inbox.ended < self.tasks:
            raise inbox.error
        return None

    def _look_after(self, inbox: Inbox) -> None:
        """Nothing came for a while: the job may have grown, or be gone."""
        ended = inbox.ended
        state = str(self.refresh(None)["state"])
        if self._quiet == (state, ended) and state in ENDED_STATES and ended < self.tasks:
            lost = self.tasks - ended
            inbox.fail(
                TaskLost(f"the broker no longer has {amount(lost, 'result')} of job {self.id}")
            )
        self._quiet = state, ended

    def _end_following(self) -> None:
        if self._following is not None:
            self._following()

    def _is_over(self) -> bool:
        inbox = self._inbox
        return inbox.error is not None or (not self._open and inbox.ended >= self.tasks)


class _Submission(Inbox):
    """Waits until the broker's journal has a job."""

    def __init__(self) -> None:
        super().__init__()
        self.is_journaled = False

    def on_journaled(self) -> None:
        """Take note that it has."""
        with self.changed.lock:
            self.is_journaled = True
            self.changed.notify_all()

    def wait(self) -> None:
        """Until then; raises why it never will."""
        with self.changed.lock:
            self.changed.wait_for(lambda: self.is_journaled or self.error is not None)
        if not self.is_journaled and self.error is not None:
            raise self.error


def submit_durable(
    io: IOThread, function: Function, options: dict[str, Any], payloads: Iterator[Payload]
) -> DurableJob:
    """Submit a job and wait until the broker's journal has all of it.

    Raises:
        SubmitRejected: the broker does not take it; what it has of it is cancelled.
    """
    submission = _Submission()
    opened = OpenJob(function, options, submission, submission.on_journaled)
    io.call(io.registry.open, opened)
    try:
        for payload in payloads:
            io.queue.put(opened, None, payload)
            if submission.error is not None:
                break
        io.call(io.registry.close, opened)
        submission.wait()
    except BaseException:
        io.call(io.registry.cancel, opened)
        io.call(io.registry.cancel_other, opened.id)
        raise
    return DurableJob(io, opened.id)
