"""Spans of tasks, where OpenTelemetry is in use: their context as it travels, and a child's spans.

The client begins a task's span when it is submitted, and ends it when it hears how the task ended. The
child makes three spans below that one: `queued`, `sent` and `run`. The task's code sees `run` as the
current span. A `Traced` function takes the context as its first argument, so that others pay nothing.
Nothing here imports OpenTelemetry before a task with a context runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from manyhands_shared import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

#: What our spans are recorded by.
INSTRUMENTATION = "manyhands"
#: Variables that say where spans go, in a child whose program has not said it.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: A child's spans leave this often, and at its end it takes so long at most to send the last.
_EXPORT_MS = 1_000
_FLUSH_MS = 2_000

#: ``traceparent`` and ``tracestate`` as W3C has them, nanoseconds at submission, the function's name.
Context = tuple[str, str, int, str]


class Running(NamedTuple):
    """What a child knows of the task that it runs.

    `handed`: when the node gave it to the slot, in nanoseconds of the monotonic clock.
    """

    job: str
    task: int
    attempt: int
    node: str
    slot: int
    handed: int


#: Tells which task runs just now, in a child that runs traced ones.
running: Callable[[], Running] | None = None
_setting_up = threading.Lock()


@dataclass(frozen=True, slots=True)
class Traced:
    """Calls a function within the span of its task, whose context is the first argument."""

    function: Callable[..., Any]

    def __call__(self, context: Context, /, *args: Any, **kwargs: Any) -> Any:
        try:
            tracer = _tracer()
        except ImportError:
            # The node has not got the extra: the task runs, and the client's span is all there is.
            return self.function(*args, **kwargs)
        with _within(tracer, context):
            return self.function(*args, **kwargs)


def tell(
    first: int,
    told: tuple[str, int, list[int], int],
    node: str,
    slot: int,
    claim: Callable[[], int],
) -> None:
    """Let the tasks of a batch know which they are.

    Args:
        first: the serial of the first.
        told: their job, attempt and indices, and when the node handed them over.
        node: the node's name.
        slot: the child's.
        claim: returns the serial of the task that runs.
    """
    global running  # noqa: PLW0603 - a child runs one batch at a time
    job, attempt, indices, handed = told

    def task() -> Running:
        return Running(job, indices[claim() - first], attempt, node, slot, handed)

    running = task


def flush() -> None:
    """Send what spans there are, at a child's end; nothing if it made none."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is not None and running is not None:
        send = getattr(trace.get_tracer_provider(), "force_flush", None)
        if send is not None:
            send(_FLUSH_MS)


@contextlib.contextmanager
def _within(tracer: Tracer, context: Context) -> Iterator[None]:
    """Make the spans of the task that runs; its code runs within the last."""
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 - as the module says
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    parent, state, submitted, name = context
    carrier = {"traceparent": parent, "tracestate": state}
    task = TraceContextTextMapPropagator().extract(carrier)
    attributes: dict[str, str | int] = {"manyhands.function": name}
    now = time.time_ns()
    if running is not None:
        at = running()
        attributes |= {
            "manyhands.job": at.job,
            "manyhands.task": at.task,
            "manyhands.attempt": at.attempt,
            "manyhands.node": at.node,
            "manyhands.slot": at.slot,
        }
        handed = now - (time.monotonic_ns() - at.handed)
        # The clocks of two hosts differ: no span ends before it begins.
        for kind, begin, end in (("queued", submitted, handed), ("sent", handed, now)):
            span = tracer.start_span(kind, task, attributes=attributes, start_time=min(begin, end))
            span.end(max(begin, end))
    with tracer.start_as_current_span(
        "run", task, SpanKind.CONSUMER, attributes, start_time=now
    ) as span:
        try:
            yield
        except BaseException:
            span.set_attribute("manyhands.outcome", "raised")
            raise
        span.set_attribute("manyhands.outcome", "ok")


def _tracer() -> Tracer:
    """The tracer of this process.

    Raises:
        ImportError: OpenTelemetry is not installed.
    """
    from opentelemetry import trace  # noqa: PLC0415 - as the module says

    if any(os.environ.get(name) for name in _ENDPOINTS):
        with _setting_up:
            if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                trace.set_tracer_provider(_provider())
    return trace.get_tracer(INSTRUMENTATION, __version__)


def _provider() -> Any:
    """What sends spans by OTLP, as the variables of the environment say.

    Raises:
        ImportError: it is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME") or "manyhands-node"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    delay = float(os.environ.get("OTEL_BSP_SCHEDULE_DELAY") or _EXPORT_MS)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=delay))
    return provider
