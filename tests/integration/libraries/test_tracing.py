"""OpenTelemetry: spans of tasks across client and node, as a collector gets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from harness.processes import eventually
from manyhands import Client, Executor, LocalCluster, Pool
from manyhands_shared.errors import TaskCrashed

SECONDS = 90.0
#: Bytes of a result that stays with its node.
LARGE = 4 << 20


class Collector:
    """A small OTLP/HTTP receiver: keeps each span that comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[tuple[str, Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    collector.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        with self._lock:
            for resource in request.resource_spans:
                service = attributes(resource.resource).get("service.name", "")
                for scope in resource.scope_spans:
                    self._spans += [(service, span) for span in scope.spans]

    def spans(self, of: int) -> list[tuple[str, Span]]:
        """The spans of one trace."""
        with self._lock:
            return [
                (service, span)
                for service, span in self._spans
                if int.from_bytes(span.trace_id, "big") == of
            ]

    @property
    def traces(self) -> set[int]:
        """The traces that have sent spans."""
        with self._lock:
            return {int.from_bytes(span.trace_id, "big") for _, span in self._spans}

    def wait(self, of: int, count: int) -> list[tuple[str, Span]]:
        """Wait for `count` spans of one trace."""

        def there() -> list[tuple[str, Span]] | None:
            found = self.spans(of)
            return found if len(found) >= count else None

        return eventually(there, SECONDS, what=f"{count} spans")

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in of.attributes
    }


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def tracer(collector: Collector) -> Iterator[trace.Tracer]:
    """The tracer of the program, which sends each span at once."""
    exporter = OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")
    provider = TracerProvider(resource=Resource.create({"service.name": "program"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before, trace._TRACER_PROVIDER = trace._TRACER_PROVIDER, provider
    yield trace.get_tracer("test")
    trace._TRACER_PROVIDER = before
    provider.shutdown()


@pytest.fixture(scope="module")
def cluster(collector: Collector) -> Iterator[LocalCluster]:
    """A node of one slot whose children send their spans to the collector."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with LocalCluster(nodes=1, slots=1) as running:
            yield running


def halve(number: int) -> int:
    with trace.get_tracer("task").start_as_current_span("inside") as span:
        span.set_attribute("number", number)
        if number % 2:
            raise ValueError(number)
        return number // 2


def leave(number: int) -> None:
    import os

    os._exit(number)


def stay() -> None:
    import threading

    with trace.get_tracer("task").start_as_current_span("inside"):
        pass
    trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]
    threading.Event().wait()


def trace_of(span: trace.Span) -> int:
    return span.get_span_context().trace_id


def by_name(found: list[tuple[str, Span]]) -> dict[str, tuple[str, Span]]:
    return {span.name: (service, span) for service, span in found}


def test_a_call_is_one_trace_from_client_to_node(
    cluster: LocalCluster, tracer: trace.Tracer, collector: Collector
) -> None:
    with Executor(address=cluster.address) as executor:
        with tracer.start_as_current_span("caller") as caller:
            future = executor.submit(halve, 8)
        assert future.result(SECONDS) == 4
    found = by_name(collector.wait(trace_of(caller), 6))
    name = next(name for name in found if name.endswith("halve"))
    parents = {
        "caller": b"",
        name: found["caller"][1].span_id,
        "queued": found[name][1].span_id,
        "sent": found[name][1].span_id,
        "run": found[name][1].span_id,
        "inside": found["run"][1].span_id,
    }
    assert {key: span.parent_span_id for key, (_, span) in found.items()} == parents
    services = {key: service for key, (service, _) in found.items()}
    assert services == {
        **dict.fromkeys(("caller", name), "program"),
        **dict.fromkeys(("queued", "sent", "run", "inside"), "manyhands-node"),
    }
    task, run = attributes(found[name][1]), attributes(found["run"][1])
    assert task["manyhands.outcome"] == run["manyhands.outcome"] == "ok"
    assert task["manyhands.job"] == run["manyhands.job"]
    assert (run["manyhands.task"], run["manyhands.attempt"], run["manyhands.slot"]) == (0, 1, 0)
    with Client(cluster.address) as client:
        [node] = client.query("nodes")
    assert run["manyhands.node"] == node["name"]
    # One after the other, and within the task.
    queued, sent, ran, whole = (found[key][1] for key in ("queued", "sent", "run", name))
    times = [queued.start_time_unix_nano, queued.end_time_unix_nano, sent.end_time_unix_nano]
    times += [ran.end_time_unix_nano]
    assert sorted(times) == times
    assert whole.start_time_unix_nano <= queued.start_time_unix_nano
    assert ran.end_time_unix_nano <= whole.end_time_unix_nano


def test_failed_and_retried_tasks(
    cluster: LocalCluster, tracer: trace.Tracer, collector: Collector
) -> None:
    with Executor(address=cluster.address, retries=1, retry_delay=0.01) as executor:
        with tracer.start_as_current_span("caller") as caller:
            future = executor.submit(halve, 7)
        with pytest.raises(ValueError, match="7"):
            future.result(SECONDS)
    found = [span for _, span in collector.wait(trace_of(caller), 10)]
    runs = [attributes(span) for span in found if span.name == "run"]
    assert sorted(run["manyhands.attempt"] for run in runs) == [1, 2]
    assert {run["manyhands.outcome"] for run in runs} == {"raised"}
    [task] = [span for span in found if span.name.endswith("halve")]
    assert attributes(task)["manyhands.outcome"] == "raised"
    assert task.status.code == 2
    assert {span.parent_span_id for span in found if span.name == "run"} == {task.span_id}


def test_of_a_task_that_ends_its_process_the_node_tells(
    cluster: LocalCluster, tracer: trace.Tracer, collector: Collector
) -> None:
    with Executor(address=cluster.address, crash_limit=2) as executor:
        with tracer.start_as_current_span("caller") as caller:
            future = executor.submit(leave, 3)
        with pytest.raises(TaskCrashed):
            future.result(SECONDS)
    found = [span for _, span in collector.wait(trace_of(caller), 2 + 2 * 3)]
    [task] = [span for span in found if span.name.endswith("leave")]
    assert attributes(task)["manyhands.outcome"] == "crashed"
    runs = [span for span in found if span.name == "run"]
    assert sorted(attributes(run)["manyhands.attempt"] for run in runs) == [1, 2]
    for run in runs:
        told = attributes(run)
        assert (run.parent_span_id, run.status.code) == (task.span_id, 2)
        assert (told["manyhands.outcome"], told["manyhands.task"]) == ("crashed", 0)
        assert told["manyhands.job"] == attributes(task)["manyhands.job"]
        assert "exited with code 3" in run.status.message
        assert task.start_time_unix_nano <= run.start_time_unix_nano < run.end_time_unix_nano
    assert sorted(span.name for span in found if span.parent_span_id == task.span_id) == [
        *("queued", "queued"),
        *("run", "run"),
        *("sent", "sent"),
    ]


def test_what_a_task_made_before_it_was_killed_is_below_the_span_that_the_node_tells_of(
    cluster: LocalCluster, tracer: trace.Tracer, collector: Collector
) -> None:
    with Executor(address=cluster.address) as executor:
        with tracer.start_as_current_span("caller") as caller:
            future = executor.submit(stay)
        collector.wait(trace_of(caller), 2)
        assert future.cancel()
    found = by_name(collector.wait(trace_of(caller), 6))
    services = {name: service for name, (service, _) in found.items()}
    assert services["run"] == services["inside"] == "manyhands-node"
    run, inside = found["run"][1], found["inside"][1]
    assert inside.parent_span_id == run.span_id
    assert attributes(run)["manyhands.outcome"] == "cancelled"


def test_a_kept_result_stays_with_its_node_though_its_task_is_traced(
    cluster: LocalCluster, tracer: trace.Tracer, collector: Collector
) -> None:
    with Executor(address=cluster.address, keep=True) as executor:
        with tracer.start_as_current_span("caller") as caller:
            future: Any = executor.submit(bytes, LARGE)
        found = [span for _, span in collector.wait(trace_of(caller), 5)]
        [task] = [span for span in found if span.name.endswith("bytes")]
        assert attributes(task)["manyhands.outcome"] == "ok"
        assert future._body is None, "it has not come"
        with tracer.start_as_current_span("user") as user:
            length = executor.submit(len, future)
        assert length.result(SECONDS) == LARGE
        collector.wait(trace_of(user), 5)
        assert future._body is None, "another task has it, and nothing else asked"
        assert len(future.result(SECONDS)) == LARGE


@pytest.mark.parametrize("how", ["map", "starmap", "imap", "executor"])
def test_each_task_of_a_map_has_a_span(
    cluster: LocalCluster, tracer: trace.Tracer, collector: Collector, how: str
) -> None:
    if how == "executor":
        with Executor(address=cluster.address) as executor, tracer.start_as_current_span("m") as m:
            assert list(executor.map(halve, [2, 4, 6])) == [1, 2, 3]
    else:
        with Pool(address=cluster.address) as pool, tracer.start_as_current_span("m") as m:
            if how == "imap":
                assert list(pool.imap(halve, [2, 4, 6])) == [1, 2, 3]
            elif how == "map":
                assert pool.map(halve, [2, 4, 6], chunksize=1) == [1, 2, 3]
            else:
                assert pool.starmap(halve, [(2,), (4,), (6,)], chunksize=1) == [1, 2, 3]
    found = [span for _, span in collector.wait(trace_of(m), 1 + 3 * 5)]
    tasks = {span.span_id: span for span in found if span.name.endswith("halve")}
    assert {span.parent_span_id for span in tasks.values()} == {
        m.get_span_context().span_id.to_bytes(8, "big")
    }
    assert sorted(attributes(span)["manyhands.task"] for span in tasks.values()) == [0, 1, 2]
    runs = [span for span in found if span.name == "run"]
    assert sorted(span.parent_span_id for span in runs) == sorted(tasks)
    for run in runs:
        told = attributes(run)["manyhands.task"], attributes(run)["manyhands.job"]
        task = attributes(tasks[run.parent_span_id])
        assert told == (task["manyhands.task"], task["manyhands.job"])


def test_without_a_current_span_nothing_is_traced(
    cluster: LocalCluster, tracer: trace.Tracer, collector: Collector
) -> None:
    before = collector.traces
    with Executor(address=cluster.address) as executor:
        assert executor.submit(abs, -1).result(SECONDS) == 1
        assert list(executor.map(abs, [-2])) == [2]
        # A trace behind it, whose spans come after all that might be there before.
        with tracer.start_as_current_span("caller") as caller:
            assert executor.submit(abs, -3).result(SECONDS) == 3
    collector.wait(trace_of(caller), 5)
    assert collector.traces - before == {trace_of(caller)}
