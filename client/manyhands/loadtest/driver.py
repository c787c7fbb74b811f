"""One client process of a load test: a session, a loop that submits, and books of every answer.

    python -m manyhands.loadtest.driver SETUP

`SETUP` and every line of stdin and stdout is one JSON object. It says ``{"ready": true}``. Then for
each step that it reads it prints a line of progress every half second, and one with the result. The
end of stdin is the end. Times are of the monotonic clock, which all processes of a machine share.

Tasks go the way that `Executor.submit` sends them: a `RemoteFuture` each, whose result is unpickled
here. Only their completion is taken down in bulk, where a callback for each would measure itself.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from manyhands._io.connection import Connection
from manyhands._results.future_sink import FutureSink
from manyhands._results.futures import RemoteFuture
from manyhands._submit import arguments, functions
from manyhands.loadtest import arrivals, mix
from manyhands.loadtest.latency import Recorder
from manyhands.loadtest.ledger import Ledger
from manyhands.loadtest.plan import Step, pressure
from manyhands.loadtest.report.slope import Slope
from manyhands.options import job_options
from manyhands_shared.errors import ClusterClosed, ManyhandsError
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.lifecycle import die_with_parent

_PROGRESS_SECONDS = 0.5
_ADAPT_SECONDS = 0.1
#: Open-loop tasks submitted in a row before answers are looked at.
_BURST = 500
_TOKEN_BITS = 40


@dataclass(frozen=True)
class DriverOptions:
    """What a driver is told when it starts."""

    address: str
    key_file: str
    client: int
    mix: str
    seed: int
    rounds_per_second: float
    parent: int


class _Call(RemoteFuture):
    """A future that knows its task, and when it was meant to start."""

    token = 0
    part = 0
    intended = 0.0


Completion = tuple[float, list[_Call]]


class _TimedSink(FutureSink):
    """Takes down when results came."""

    def __init__(self, out: queue.SimpleQueue[Completion], *job: Any) -> None:
        super().__init__(*job)
        self._out = out

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        now = time.monotonic()
        calls: Any = [self._futures[index] for index in indices]
        super().deliver(indices, statuses, bodies)
        self._out.put((now, calls))


class Driver:
    """A session with a broker that runs steps one after the other."""

    def __init__(self, setup: DriverOptions, say: Callable[[dict[str, Any]], None]) -> None:
        self._setup = setup
        self._say = say
        self._parts = mix.parse(setup.mix)
        self._works = [part.work(setup.rounds_per_second) for part in self._parts]
        self._connection = Connection(
            setup.address, setup.key_file or None, name=f"loadtest client {setup.client}"
        )
        self._completed: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        self._sinks = [self._open(work.function) for work in self._works]
        self._put = self._connection.io.queue.put
        self._token = setup.client << _TOKEN_BITS
        self._steps = 0

    def close(self) -> None:
        """End the session."""
        self._connection.abort(ClusterClosed("the load test is over"))

    def run(self, step: Step, start: float, slots: float) -> dict[str, Any]:
        """Do a step that starts at `start`; returns its result.

        Args:
            step: this client's share.
            slots: of the cluster, this client's share of them.
        """
        self._steps += 1
        one = _Run(self, step, start, slots, self._setup.seed + 7_919 * self._steps)
        return one.result()

    def submit(self, part: int, intended: float) -> int:
        """Hand in one task; its token."""
        self._token = token = self._token + 1
        sink = self._sinks[part]
        call = _Call(sink)
        call.token, call.part, call.intended = token, part, intended
        self._put(sink.job, call, arguments.pack(self._works[part].arguments(token), {}))
        return token

    def completed(self, timeout: float) -> Completion | None:
        """Return what completed next; wait `timeout` seconds at most."""
        try:
            return (
                self._completed.get(timeout=timeout)
                if timeout > 0
                else self._completed.get_nowait()
            )
        except queue.Empty:
            return None

    def progress(self, **figures: Any) -> None:
        """Tell how far it is."""
        self._say({"progress": {"client": self._setup.client, **figures}})

    @property
    def checks(self) -> list[Callable[[int, Any], bool]]:
        """For each part of the mix, whether a task with that token has that answer."""
        return [work.is_right for work in self._works]

    @property
    def part_names(self) -> list[str]:
        """Of the mix."""
        return [part.text for part in self._parts]

    def choices(self, seed: int) -> Iterator[int]:
        """Which part each task is of."""
        return mix.choices(self._parts, seed)

    def _open(self, function: Callable[..., Any]) -> _TimedSink:
        options = job_options(f"loadtest {function.__name__}").to_map()
        io = self._connection.io
        sink = _TimedSink(self._completed, io, functions.pack(function), options)
        io.call(io.registry.open, sink.job)
        return sink


class _Run:
    """One step in the making."""

    def __init__(self, driver: Driver, step: Step, start: float, slots: float, seed: int) -> None:
        self._driver = driver
        self._step = step
        self._slots = slots
        self._seed = seed
        self._start = start
        self._begin = start + step.warmup
        self._end = self._begin + step.seconds
        self._ledger = Ledger()
        self._choices = driver.choices(seed)
        self._checks = driver.checks
        self._all = Recorder()
        self._by_part = [Recorder() for _ in driver.part_names]
        self._done = self._done_in_window = self._sent_in_window = self._unsent = 0
        self._slope = Slope()
        self._told = start

    def result(self) -> dict[str, Any]:
        """Do it."""
        time.sleep(max(0.0, self._start - time.monotonic()))
        cpu = time.process_time()
        if self._step.loop == "open":
            self._open_loop()
        else:
            self._closed_loop()
        busy = (time.process_time() - cpu) / (time.monotonic() - self._start)
        self._drain()
        return {
            "book": self._ledger.to_map(),
            "done": self._done_in_window,
            "sent": self._sent_in_window,
            "unsent": self._unsent,
            "slope": self._slope.rate,
            "busy": busy,
            "latency": self._all.encode(),
            "parts": {
                name: recorder.encode()
                for name, recorder in zip(self._driver.part_names, self._by_part, strict=True)
            },
        }

    def _closed_loop(self) -> None:
        fixed = self._step.concurrency
        limit = fixed or pressure(0.0, self._slots, 0)
        looked, done_then = self._start, 0
        while (now := time.monotonic()) < self._end:
            while self._ledger.waiting < limit:
                self._submit(time.monotonic())
            self._collect(min(_ADAPT_SECONDS, self._end - now))
            if not fixed and now - looked >= _ADAPT_SECONDS:
                rate = (self._done - done_then) / (now - looked)
                limit = pressure(rate, self._slots, limit)
                looked, done_then = now, self._done

    def _open_loop(self) -> None:
        offsets = arrivals.offsets(self._step.arrivals, self._step.rate, self._seed)
        due = self._start + next(offsets)
        while due < self._end:
            now = time.monotonic()
            burst = 0
            while due <= now and due < self._end and burst < _BURST:
                self._submit(due)
                due = self._start + next(offsets)
                burst += 1
            if now >= self._end:
                break
            self._collect(0.0 if due <= now else min(due, self._end) - now)
        while (left := self._end - time.monotonic()) > 0:
            self._collect(left)
        while due < self._end:
            # The client itself fell behind. These have waited until now, and would have for longer.
            if due >= self._begin:
                self._unsent += 1
                self._all.extend([time.monotonic() - due])
            due = self._start + next(offsets)

    def _submit(self, intended: float) -> None:
        self._ledger.ask(self._driver.submit(next(self._choices), intended))
        self._sent_in_window += self._begin <= intended < self._end

    def _collect(self, timeout: float) -> None:
        """Book what completed next; wait `timeout` seconds at most."""
        completion = self._driver.completed(timeout)
        if completion is not None:
            now, calls = completion
            self._done += len(calls)
            if self._begin <= now < self._end:
                self._done_in_window += len(calls)
                self._slope.add(now, len(calls))
            self._book(calls, now)
        if time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._tell()

    def _book(self, calls: list[_Call], now: float) -> None:
        """Check answers. What is done here for each task, the cluster does not get done meanwhile."""
        ledger, checks = self._ledger, self._checks
        begin, end, several = self._begin, self._end, len(self._by_part) > 1
        latencies = []
        for call in calls:
            token = call.token
            try:
                answer = call.result(0)
            except Exception as error:  # noqa: BLE001 - whatever a task may raise is its failure
                ledger.fail(token, " ".join(f"{type(error).__name__}: {error}".split()))
                continue
            if checks[call.part](token, answer):
                ledger.confirm(token)
            else:
                ledger.refute(token, repr(answer)[:100])
            if begin <= call.intended < end:
                latencies.append(now - call.intended)
                if several:
                    self._by_part[call.part].extend([now - call.intended])
        self._all.extend(latencies)

    def _drain(self) -> None:
        deadline = time.monotonic() + self._step.stop_timeout
        while self._ledger.waiting and (left := deadline - time.monotonic()) > 0:
            self._collect(min(left, _PROGRESS_SECONDS))
        self._ledger.give_up()
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._driver.progress(done=self._done, waiting=self._ledger.waiting)


def main(argument: str) -> int:
    """Serve steps until stdin ends; an error is a line ``{"error": …}`` and exit code 1."""
    setup = DriverOptions(**json.loads(argument))
    die_with_parent(setup.parent)

    def say(line: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    try:
        driver = Driver(setup, say)
        try:
            say({"ready": True})
            for line in sys.stdin:
                told = json.loads(line)
                say({"result": driver.run(Step(**told["step"]), told["start"], told["slots"])})
        finally:
            driver.close()
    except ManyhandsError as error:
        say({"error": str(error), "exit_code": int(error.exit_code)})
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
