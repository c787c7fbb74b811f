"""Spans of tasks, where OpenTelemetry is in use: their context as it travels, and a child's spans.

The client begins a task's span when it is submitted, and ends it when it hears how the task ended. The
child makes three spans below that one: `queued`, `sent` and `run`. The task's code sees `run` as the
current span. If the child is killed meanwhile, the node makes these three of what was `Noted`. A
`Traced` function takes the context as its first argument, so that others pay nothing.
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
#: A child's spans leave this often, and at its end it takes this time at most to send the last.
_EXPORT_MS = 200
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


class Noted(NamedTuple):
    """What a child notes of the task that runs, for the node: ids of spans, and nanoseconds.

    `trace` and `parent`: the task's span, and its trace. `run`: the span that the task's code sees.
    """

    trace: int
    parent: int
    run: int
    submitted: int
    handed: int
    begun: int


#: Takes a note of the task that runs, and that it runs no more.
note: Callable[[Noted | None], None] | None = None
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


def disown() -> None:
    """Note nothing from now on: this process was forked by a task."""
    global note  # noqa: PLW0603 - as above
    note = None


def endpoint() -> bool:
    """Whether the environment says where spans go."""
    return any(os.environ.get(name) for name in _ENDPOINTS)


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
    begun = handed = time.time_ns()
    if running is not None:
        at = running()
        attributes |= _attributes(at)
        handed = begun - (time.monotonic_ns() - at.handed)
    with tracer.start_as_current_span(
        "run", task, SpanKind.CONSUMER, attributes, start_time=begun
    ) as span:
        own = span.get_span_context()
        if note is not None and own.trace_flags.sampled:
            above = int(parent.split("-")[2], 16)
            note(Noted(own.trace_id, above, own.span_id, submitted, handed, begun))
        try:
            yield
        except BaseException:
            span.set_attribute("manyhands.outcome", "raised")
            raise
        else:
            span.set_attribute("manyhands.outcome", "ok")
        finally:
            if note is not None:
                note(None)
            if running is not None:
                for kind, start, end in _before(submitted, handed, begun):
                    tracer.start_span(kind, task, attributes=attributes, start_time=start).end(end)


def _attributes(at: Running) -> dict[str, str | int]:
    return {
        "manyhands.job": at.job,
        "manyhands.task": at.task,
        "manyhands.attempt": at.attempt,
        "manyhands.node": at.node,
        "manyhands.slot": at.slot,
    }


def _before(submitted: int, handed: int, begun: int) -> list[tuple[str, int, int]]:
    """Return the spans before that of the run. The clocks of two hosts differ: none ends too early."""
    times = ("queued", submitted, handed), ("sent", handed, begun)
    return [(kind, min(start, end), max(start, end)) for kind, start, end in times]


class SpanExporter:
    """Sends the spans of tasks whose child was killed, as the variables of the environment say.

    Raises:
        ImportError: OpenTelemetry is not installed.
    """

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - as the module says
            OTLPSpanExporter,
        )

        self._exporter: Any = OTLPSpanExporter()
        self._resource = _resource()

    def send(self, noted: Noted, at: Running, ended: int, outcome: str, text: str) -> None:
        """Send the spans of one task: `outcome` is what it has come to, `text` says how."""
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - as the module says
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
        from opentelemetry.trace import (  # noqa: PLC0415
            SpanContext,
            SpanKind,
            Status,
            StatusCode,
            TraceFlags,
        )

        def context(span_id: int) -> SpanContext:
            return SpanContext(noted.trace, span_id, is_remote=False, trace_flags=TraceFlags(1))

        new = RandomIdGenerator().generate_span_id
        spans = [(*one, new(), SpanKind.INTERNAL, Status()) for one in _before(*noted[3:])]
        last = max(noted.begun, ended)
        failed = Status(StatusCode.ERROR, text)
        spans.append(("run", noted.begun, last, noted.run, SpanKind.CONSUMER, failed))
        self._exporter.export(
            [
                ReadableSpan(
                    name,
                    context(span_id),
                    context(noted.parent),
                    self._resource,
                    _attributes(at) | ({"manyhands.outcome": outcome} if name == "run" else {}),
                    kind=kind,
                    status=status,
                    start_time=start,
                    end_time=end,
                    instrumentation_scope=InstrumentationScope(INSTRUMENTATION, __version__),
                )
                for name, start, end, span_id, kind, status in spans
            ]
        )

    def close(self) -> None:
        """Send nothing any more."""
        self._exporter.shutdown()


def _tracer() -> Tracer:
    """The tracer of this process.

    Raises:
        ImportError: OpenTelemetry is not installed.
    """
    from opentelemetry import trace  # noqa: PLC0415 - as the module says

    if endpoint():
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
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=_resource())
    delay = float(os.environ.get("OTEL_BSP_SCHEDULE_DELAY") or _EXPORT_MS)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=delay))
    return provider


def _resource() -> Any:
    """What spans are sent in the name of."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as the module says

    name = os.environ.get("OTEL_SERVICE_NAME") or "manyhands-node"
    return Resource.create({"service.name": name})
