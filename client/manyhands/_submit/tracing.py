"""Spans of tasks at the client, where the program uses OpenTelemetry and a span is current.

Nothing here imports OpenTelemetry: where the program has not done so, no span can be current.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from manyhands._results.open_spans import end_span
from manyhands_shared import __version__
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.status import Status
from manyhands_shared.tracing import INSTRUMENTATION, Context, Traced

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from manyhands._io.open_job import Sink
    from manyhands_shared.protocol.job_options import JobOptions

_loaded = sys.modules.get
#: Loaded where the program uses OpenTelemetry.
API = "opentelemetry.trace"


def is_on() -> bool:
    """Whether a span is current: tasks that are submitted now are its children."""
    trace: Any = _loaded(API)
    if trace is None:
        return False
    try:
        return bool(trace.get_current_span().get_span_context().is_valid)
    except AttributeError:
        # Another thread imports it just now.
        return False


def spans(name: str, options: JobOptions) -> Spans | None:
    """What makes the spans of tasks that are submitted now; None where there are to be none.

    None of tasks whose arguments the context cannot go before: safe ones, and those that come after
    other jobs.
    """
    return Spans(name) if is_on() and not (options.safe or options.after) else None


class Spans:
    """Makes the spans of tasks of one function, below the span that is current now."""

    def __init__(self, name: str) -> None:
        from opentelemetry import context  # noqa: PLC0415 - it is loaded

        self._name = name
        self._parent = context.get_current()

    def begin(self) -> tuple[Span, Context]:
        """Begin the span of one task; return it, and what travels with the task."""
        from opentelemetry import trace  # noqa: PLC0415 - it is loaded
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        span = trace.get_tracer(INSTRUMENTATION, __version__).start_span(
            self._name,
            self._parent,
            trace.SpanKind.PRODUCER,
            {"manyhands.function": self._name},
        )
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
        parent, state = carrier.get("traceparent", ""), carrier.get("tracestate", "")
        return span, (parent, state, time.time_ns(), self._name)

    def sink(self, sink: Sink) -> TracedSink:
        """What ends the spans of a job of its own."""
        return TracedSink(sink, self)

    @staticmethod
    def wrapper(inner: Callable[..., Any] | None) -> Callable[..., Any]:
        """What a function is to be wrapped in, outside `inner`."""
        return Traced if inner is None else lambda function: Traced(inner(function))

    @staticmethod
    def give_up(span: Span, error: BaseException) -> None:
        """End the span of a task that could not be submitted."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - it is loaded

        span.record_exception(error)
        span.set_status(StatusCode.ERROR, "not submitted")
        span.end()


class TracedSink:
    """Passes on what comes back for a job, and ends the spans of its tasks.

    Args:
        sink: takes it.
        spans: makes the spans of the tasks.
    """

    def __init__(self, sink: Sink, spans: Spans) -> None:
        self._sink = sink
        self._make = spans
        self._job = ""
        #: Of the tasks in the order in which they are submitted, as long as they have not ended.
        self._spans: dict[int, Span] = {}
        self._count = 0

    def begin(self, job: str) -> Context:
        """Begin the span of the job's next task; return what travels with it."""
        span, context = self._make.begin()
        self._job = job
        self._spans[self._count] = span
        self._count += 1
        return context

    def give_up(self, error: BaseException) -> None:
        """End the span that was begun last: its task cannot be submitted."""
        self._count -= 1
        self._make.give_up(self._spans.pop(self._count), error)

    def accept(self, first: int, entries: Sequence[Any], /) -> None:
        """See `Sink`."""
        self._sink.accept(first, entries)

    def reject(self, entries: Sequence[Any], payloads: Sequence[Payload], /) -> None:
        """See `Sink`."""
        self._sink.reject(entries, payloads)

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """See `Sink`."""
        self._sink.deliver(indices, statuses, bodies)
        for index, status in zip(indices, statuses, strict=True):
            span = self._spans.pop(index, None)
            if span is not None:
                end_span(span, self._job, index, Status(status))

    def fail(self, error: BaseException) -> None:
        """See `Sink`."""
        self._sink.fail(error)
        left, self._spans = self._spans, {}
        for index, span in left.items():
            end_span(span, self._job, index, Status.LOST)

    def orphan(self, error: BaseException, entries: Sequence[Any], /) -> None:
        """See `Sink`."""
        self._sink.orphan(error, entries)

    @property
    def waits(self) -> bool:
        """See `Sink`."""
        return self._sink.waits
