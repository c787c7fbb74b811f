"""The client processes of a load test, seen from the process that leads them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from manyhands.loadtest import driver
from manyhands.loadtest.plan import Step
from manyhands_shared.errors import ManyhandsError
from manyhands_shared.processes.thread_start import must_start

_READY_SECONDS = 60.0
_LEAD_SECONDS = 0.3
_LEAVE_SECONDS = 10.0

Progress = Callable[[dict[str, Any]], None]


class ClientFailed(ManyhandsError):
    """A client process could not go on; the text is its own."""


class Clients:
    """Start driver processes, all connected, that do steps together.

    Args:
        setup: what all are told.
        count: how many.
        place: entered around their start; they then are where it leads to.

    Raises:
        ClientFailed: one could not start; its exit code is kept.
    """

    def __init__(
        self,
        setup: dict[str, Any],
        count: int,
        place: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._lines: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []
        try:
            with place():
                for number in range(count):
                    self._start({**setup, "client": number, "parent": os.getpid()})
            self._gather("ready", _READY_SECONDS, lambda _: None)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [process.pid for process in self._processes]

    def start(self, step: Step, slots: int) -> float:
        """Have all begin a step at the same moment; the moment, by the monotonic clock."""
        begin = time.monotonic() + _LEAD_SECONDS
        count = len(self._processes)
        for number, process in enumerate(self._processes):
            order = {
                "step": asdict(step.share(number, count)),
                "start": begin,
                "slots": slots / count,
            }
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it ended; what it said is read below
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
        return begin

    def results(self, step: Step, progress: Progress) -> list[dict[str, Any]]:
        """Wait for the end of the step that was started; every client's result.

        Raises:
            ClientFailed: a client ended instead.
        """
        within = step.warmup + step.seconds + step.stop_timeout + _READY_SECONDS
        return self._gather("result", within, progress)

    def close(self) -> None:
        """End them all."""
        for process in self._processes:
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
        deadline = time.monotonic() + _LEAVE_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join()
        for process in self._processes:
            if process.stdout is not None:
                process.stdout.close()

    def _start(self, setup: dict[str, Any]) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", driver.__name__, json.dumps(setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,  # Ctrl-C is for the leader, which then ends them
        )
        number = len(self._processes)
        self._processes.append(process)
        thread = threading.Thread(
            target=self._listen, args=(number, process), name="manyhands-loadtest", daemon=True
        )
        must_start(thread)
        self._threads.append(thread)

    def _listen(self, number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put((number, json.loads(line)))
        self._lines.put((number, {"ended": True}))

    def _gather(self, key: str, seconds: float, progress: Progress) -> list[dict[str, Any]]:
        """One line with `key` of each client."""
        deadline = time.monotonic() + seconds
        found: dict[int, Any] = {}
        while len(found) < len(self._processes):
            try:
                number, line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise ClientFailed(f"a client process did not answer for {seconds:.0f} s") from None
            if "error" in line:
                failed = ClientFailed(f"client {number}: {line['error']}")
                failed.exit_code = line["exit_code"]
                raise failed
            if "ended" in line:
                code = self._processes[number].wait()
                raise ClientFailed(f"client {number} ended with exit code {code}; see above why")
            if "progress" in line:
                progress(line["progress"])
            elif key in line:
                found[number] = line[key]
        return [found[number] for number in range(len(self._processes))]
