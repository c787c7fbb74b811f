"""A simulated fleet: up to 1,000 nodes that speak the real protocol, against a real broker.

    python -m bench.fleet --nodes 1 64 1000

A few processes hold all the nodes (`bench.simulated`), and one link is the client. What is measured is
the CPU time of the broker's processes, not how fast the machine is:

- per task, taking it in, giving it out and passing its result on, while the queue is long;
- per task of jobs of 100,000 tasks, one after the other, so that all begin and end with idle nodes;
- per task where each is a message of its own: as many tasks as nodes, and each takes a whole node;
- per node for telling it of a job: what such tasks cost more when each round is a job of its own;
- per node and second while nothing happens, and per heartbeat.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import secrets
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
import zmq

import manyhands
from bench.simulated import serve
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.transport import zmq_pieces

_PROCESSES = 2
_JOIN_SECONDS = 60.0
_SILENCE_MS = 30_000
_QUIET_SECONDS = 5.0
#: What a task says to have taken: a node with a slot is given 2,500 of them.
_TASK_SECONDS = 0.00002
#: With 1,000 nodes what is queued is twice what nodes hold, or more, for as long as is measured.
_QUEUE, _TASKS = 10_000_000, 3_000_000
_JOBS, _JOB_TASKS = 5, 100_000
#: Rounds, at least, and tasks, at least, that are sent one by one.
_ROUNDS, _ALONE = 5, 5_000
_MESSAGE_TASKS = 4_096
_ARGUMENT = b"\x80\x05\x95\x0a\x00\x00\x00\x00\x00\x00\x00J\x00\x00\x00\x00\x85}\x86."
_FUNCTION = secrets.token_bytes(16)
#: What is compared between fleets.
PER_TASK = "long queue: broker's CPU per task, µs"


def main() -> int:
    """Run each fleet in turn, as often as asked for; print a table of medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--nodes", nargs="*", type=int, default=[1, 64, 1000])
    parser.add_argument("--queue", type=int, default=_QUEUE, help="tasks in the long queue")
    parser.add_argument("--tasks", type=int, default=_TASKS, help="how many of them are measured")
    parser.add_argument("--task-seconds", type=float, default=_TASK_SECONDS)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[int, list[dict[str, float]]] = {count: [] for count in options.nodes}
    for _ in range(options.repeats):
        for count, turns in found.items():
            turns.append(measure(count, options.queue, options.tasks, options.task_seconds))
    medians = {
        count: {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        for count, turns in found.items()
    }
    if options.json:
        print(json.dumps(medians))
        return 0
    names = list(next(iter(medians.values())))
    print("| nodes | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for count, figures in medians.items():
        print(f"| {count} | " + " | ".join(f"{figures[name]:.3g}" for name in names) + " |")
    return 0


def measure(nodes: int, queue: int, tasks: int, task_seconds: float) -> dict[str, float]:
    """Return the figures of a fleet of `nodes` nodes."""
    context = multiprocessing.get_context("spawn")
    stop, open_ = context.Event(), context.Event()
    fleets: list[SpawnProcess] = []
    # The nodes here are plain ZeroMQ sockets, as those of other machines are.
    tcp = {"bind": "tcp://127.0.0.1:0", "window_tasks": 2 * queue, "window_bytes": 1 << 40}
    with manyhands.LocalCluster(nodes=0, broker=tcp) as cluster:
        assert cluster.broker is not None
        links = []
        for first in range(_PROCESSES):
            share = nodes // _PROCESSES + (first < nodes % _PROCESSES)
            near, far = context.Pipe()
            links.append(near)
            what = (cluster.address, f"sim-{first}", share, task_seconds, far, open_, stop)
            fleets.append(context.Process(target=serve, args=what))
            fleets[-1].start()
        try:
            for near in links:
                if not near.poll(_JOIN_SECONDS):
                    raise TimeoutError("the simulated nodes did not join")
                near.recv()
            broker = psutil.Process(cluster.broker.pid)
            return _figures(cluster.address, broker, nodes, queue, tasks, open_)
        finally:
            stop.set()
            for process in fleets:
                process.join(_JOIN_SECONDS)
                process.kill()


def _figures(
    address: str, broker: psutil.Process, nodes: int, queue: int, tasks: int, open_: Event
) -> dict[str, float]:
    monitors = broker.children(recursive=True)
    before, beats = cpu_seconds(broker), sum(map(cpu_seconds, monitors))
    time.sleep(_QUIET_SECONDS)
    quiet = cpu_seconds(broker) - before
    beats = sum(map(cpu_seconds, monitors)) - beats
    feeder = Feeder(address)
    rounds = max(_ROUNDS, _ALONE // nodes)
    open_.set()
    feeder.run("warm", 1_000 * nodes)
    jobs = _spent(
        broker, lambda: _each(_JOBS, lambda n: feeder.run(f"job-{n}", _JOB_TASKS, last=True))
    )
    feeder.run("alone", nodes, alone=True)
    alone = _spent(broker, lambda: _each(rounds, lambda _: feeder.run("alone", nodes, alone=True)))
    fresh = _spent(
        broker,
        lambda: _each(rounds, lambda n: feeder.run(f"alone-{n}", nodes, alone=True, last=True)),
    )
    open_.clear()
    fill = _spent(broker, lambda: feeder.submit("long", queue))
    open_.set()
    feeder.take(queue // 10)
    began, ended = time.perf_counter(), feeder.ended
    long = _spent(broker, lambda: feeder.take(tasks))
    seconds, ended = time.perf_counter() - began, feeder.ended - ended
    return {
        PER_TASK: (fill / queue + long / ended) * 1e6,
        "of it, taking it in": fill / queue * 1e6,
        "tasks/s": ended / seconds,
        "jobs of 100,000: per task, µs": jobs / (_JOBS * _JOB_TASKS) * 1e6,
        "alone: per task, µs": alone / (rounds * nodes) * 1e6,
        "a job more: per node, µs": (fresh - alone) / (rounds * nodes) * 1e6,
        "quiet: per node and second, µs": quiet / nodes / _QUIET_SECONDS * 1e6,
        "monitor: per heartbeat, µs": beats / nodes / _QUIET_SECONDS * 1e6,
        "broker's memory, MB": broker.memory_info().rss / 1e6,
    }


class Feeder:
    """A client that submits tasks by thousands and takes their results, with little Python for each."""

    def __init__(self, address: str) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._socket = context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(address)
        self._submitted: dict[str, int] = {}
        self.ended = self._total = 0
        self._send(m.ClientHello(1, secrets.token_bytes(16), "bench", 0, 0, {}))
        assert isinstance(self._hear(), m.ClientWelcome)
        self._send(m.Function(_FUNCTION, "nothing", [b"code"]))

    def submit(self, job: str, count: int) -> None:
        """Add tasks to a job, and wait until the broker has them."""
        while count > 0:
            part = min(count, _MESSAGE_TASKS)
            count -= part
            self._submit(job, part, {})
            self._hear()

    def run(self, job: str, count: int, *, alone: bool = False, last: bool = False) -> None:
        """Add tasks to a job, and wait until all that there are have ended.

        Args:
            job: Its id.
            count: How many tasks.
            alone: Whether each task takes a whole node.
            last: Whether these are the job's last.
        """
        options: dict[str, object] = {"resources": {"cpus": 1.0}} if alone else {}
        while count > 0:
            part = min(count, _MESSAGE_TASKS)
            count -= part
            self._submit(job, part, options, closed=last and not count)
        while self.ended < self._total:
            self._hear()

    def take(self, count: int) -> None:
        """Hear until `count` more tasks have ended."""
        until = self.ended + count
        while self.ended < until:
            self._hear()

    def _submit(
        self, job: str, count: int, options: dict[str, object], *, closed: bool = False
    ) -> None:
        first = self._submitted.get(job, 0)
        told = None if first else {"name": job, **options}
        self._submitted[job] = first + count
        self._total += count
        bodies: list[Payload] = [_ARGUMENT] * count
        self._send(m.Submit([m.SubmitGroup(job, _FUNCTION, told, first, closed, bodies)]))

    def _send(self, message: m.Message) -> None:
        self._socket.send_multipart(zmq_pieces.cut(wire.encode(message)))

    def _hear(self) -> m.Message:
        assert self._socket.poll(_SILENCE_MS), "the broker says nothing"
        message = wire.decode(zmq_pieces.join(self._socket.recv_multipart()))
        if isinstance(message, m.Results):
            self.ended += sum(len(group.indices) for group in message.groups)
            self._send(m.Ack(message.seq))
        elif isinstance(message, m.Refused | m.Rejected):
            raise ConnectionError(message.reason)
        return message


def _each(count: int, work: Callable[[int], None]) -> None:
    for number in range(count):
        work(number)


def _spent(process: psutil.Process, work: Callable[[], object]) -> float:
    """CPU seconds of a process while `work` is done."""
    before = cpu_seconds(process)
    work()
    return cpu_seconds(process) - before


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds of all threads. By the scheduler's account: `cpu_times` counts in hundredths."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


if __name__ == "__main__":
    sys.exit(main())
