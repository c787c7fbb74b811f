"""Spans of the tasks of a job that is traced, as long as these have not ended.

They are ended by what comes back for the job. To ask a future would have its result come here, which
may be one that is to stay with its node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from manyhands_shared.protocol.status import Status

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class OpenSpans:
    """For the I/O thread. `job` is the job's id."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._spans: dict[int, Span] = {}

    def begun(self, first: int, spans: Iterable[Span]) -> None:
        """Take the spans of tasks `first`, `first + 1`, …"""
        self._spans.update(enumerate(spans, first))

    def ended(self, indices: Sequence[int], statuses: bytes) -> None:
        """End those of tasks that have ended."""
        for index, status in zip(indices, statuses, strict=True):
            span = self._spans.pop(index, None)
            if span is not None:
                end_span(span, self._job, index, Status(status))

    def stays(self, index: int) -> None:
        """End that of a task whose result stays with its node."""
        self.ended([index], bytes([Status.OK]))

    def over(self, status: Status) -> None:
        """End all: nothing more comes."""
        self.ended(list(self._spans), bytes([status]) * len(self._spans))

    def refused(self, spans: Iterable[Span], status: Status) -> None:
        """End those of tasks that the job has not taken."""
        for span in spans:
            end_span(span, self._job, None, status)


def end_span(span: Span, job: str, index: int | None, status: Status) -> None:
    """End a task's span, and say how the task ended."""
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 - it is loaded

    span.set_attribute("manyhands.outcome", status.name.lower())
    if job and index is not None:
        span.set_attribute("manyhands.job", job)
        span.set_attribute("manyhands.task", index)
    if status != Status.OK:
        span.set_status(StatusCode.ERROR, status.name.lower())
    span.end()
