"""A simulated fleet: up to 1,000 nodes that speak the real protocol, against a real broker.

    python -m bench.fleet --nodes 1 64 1000

A few processes hold all the nodes: each node is a link of its own that joins, renews its lease, sends
heartbeats and answers every task at once. What is measured is the CPU time of the broker's processes,
not how fast the machine is: per task, per node and second while nothing else happens, per heartbeat.
All tasks are submitted before the nodes take any, so that every fleet is given them from a full queue;
the cost of taking them in is part of it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import select
import socket
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import psutil
import zmq

import manyhands
from bench import tasks
from manyhands_shared import beat, wire
from manyhands_shared import messages as m

_PROCESSES = 2
_JOIN_SECONDS = 60.0
_QUIET_SECONDS = 10.0
_TASKS = 900_000
#: What every simulated task says to have taken.
_TASK_SECONDS = 0.00001
_WINDOW = 65_536
_RESULT = b"\x80\x05K\x01."


def main() -> int:
    """Run each fleet in turn; print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--nodes", nargs="*", type=int, default=[1, 64, 1000])
    parser.add_argument("--tasks", type=int, default=_TASKS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {count: measure(count, options.tasks) for count in options.nodes}
    if options.json:
        print(json.dumps(found))
        return 0
    names = list(next(iter(found.values())))
    print("| nodes | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for count, figures in found.items():
        print(f"| {count} | " + " | ".join(f"{figures[name]:.3g}" for name in names) + " |")
    return 0


def measure(count: int, number: int) -> dict[str, float]:
    """The figures of a fleet of `count` nodes."""
    context = multiprocessing.get_context("spawn")
    with manyhands.LocalCluster(nodes=0) as cluster:
        assert cluster.broker is not None
        broker = psutil.Process(cluster.broker.pid)
        stop, go, fleets = context.Event(), context.Event(), []
        shares = [count // _PROCESSES + (n < count % _PROCESSES) for n in range(_PROCESSES)]
        for first, share in enumerate(shares):
            near, far = context.Pipe()
            process = context.Process(
                target=serve, args=(cluster.address, f"sim-{first}", share, far, go, stop)
            )
            process.start()
            fleets.append((process, near))
        try:
            for _, near in fleets:
                if not near.poll(_JOIN_SECONDS):
                    raise TimeoutError("the simulated nodes did not join")
                near.recv()
            return _figures(cluster.address, broker, count, number, go)
        finally:
            stop.set()
            for process, _ in fleets:
                process.join(_JOIN_SECONDS)
                process.kill()


def _figures(
    address: str, broker: psutil.Process, count: int, number: int, go: Event
) -> dict[str, float]:
    monitors = broker.children(recursive=True)
    with manyhands.Executor(address=address) as executor, manyhands.Client(address) as client:
        before = _cpu(broker)
        futures = [executor.submit(tasks.noop, n) for n in range(number)]
        while client.query("stats")["queued"] < number:
            time.sleep(0.1)
        began = time.perf_counter()
        go.set()
        for future in futures:
            future.result()
        seconds = time.perf_counter() - began
        per_task = (_cpu(broker) - before) / number
    before, beats = _cpu(broker), sum(map(_cpu, monitors))
    time.sleep(_QUIET_SECONDS)
    quiet = _cpu(broker) - before
    beats = sum(map(_cpu, monitors)) - beats
    return {
        "broker CPU per task, µs": per_task * 1e6,
        "tasks/s from a full queue": number / seconds,
        "broker CPU per node and second, µs": quiet / count / _QUIET_SECONDS * 1e6,
        "monitor CPU per heartbeat, µs": beats / count / _QUIET_SECONDS * 1e6,
        "broker RSS, MB": broker.memory_info().rss / 1e6,
    }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def serve(address: str, prefix: str, count: int, ready: Connection, go: Event, stop: Event) -> None:
    """Be `count` nodes that take tasks from `go` on, until told to stop."""
    context, udp = zmq.Context(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    context.set(zmq.MAX_SOCKETS, 8_192)
    poll, nodes = select.epoll(), {}
    for number in range(count):
        node = Node(context, udp, address, f"{prefix}-{number}")
        nodes[node.fd] = node
        poll.register(node.fd, select.EPOLLIN)
        # ZeroMQ's descriptor tells only of what has happened since its socket was last used.
        node.turn()
    told, open_, due = False, False, time.monotonic()
    while not stop.is_set():
        for fd, _ in poll.poll(0.05):
            nodes[fd].turn()
        if not told and all(node.joined for node in nodes.values()):
            told = True
            ready.send("joined")
        if not open_ and go.is_set():
            open_ = True
            for node in nodes.values():
                node.open()
        now = time.monotonic()
        if now >= due:
            due = now + 1.0
            for node in nodes.values():
                node.live(now)
    for node in nodes.values():
        node.socket.close(0)
    context.term()


class Node:
    """One simulated node with a slot that takes no time."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], udp: socket.socket, address: str, name: str
    ) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, os.urandom(16))
        self.socket.linger = 0
        self.socket.connect(address)
        self.fd = int(self.socket.fd)
        self.joined = False
        self._udp = udp
        self._boot_id = os.urandom(16)
        self._welcome: m.WorkerWelcome | None = None
        self._seq = self._renewals = self._beats = 0
        self._renew_at = 0.0
        self._window = 0
        self._send(m.WorkerHello(1, name, self._boot_id, 1, 0, [], {"host": "simulated"}))

    def _send(self, message: m.Message) -> None:
        self.socket.send_multipart(wire.encode(message))

    def turn(self) -> None:
        """Take and answer what has come."""
        while self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            match wire.decode(self.socket.recv_multipart()):
                case m.WorkerWelcome() as welcome:
                    self._welcome, self.joined = welcome, True
                case m.Assign(groups):
                    self._seq += 1
                    self._send(m.Results(self._seq, [_done(group) for group in groups]))
                case m.Ping(counter):
                    self._send(m.Pong(counter))
                case m.Recall():
                    self._send(m.Returned([]))

    def open(self) -> None:
        """Take tasks from now on."""
        self._window = _WINDOW
        self._renew()

    def _renew(self) -> None:
        self._renewals += 1
        self._send(m.Renew(self._renewals, 1, self._window))
        self.turn()

    def live(self, now: float) -> None:
        """Send a heartbeat; renew the lease if it is time."""
        welcome = self._welcome
        if welcome is None:
            return
        if now >= self._renew_at:
            self._renew_at = now + welcome.renew_interval
            self._renew()
        if welcome.beat_port:
            self._beats += 1
            sign = beat.Beat(
                welcome.beat_row, self._boot_id, self._beats, self._beats, 0, 0.0, 0, 0, 0.0
            )
            datagram = beat.encode(sign, welcome.beat_key)
            self._udp.sendto(datagram, ("127.0.0.1", welcome.beat_port))


def _done(group: m.AssignGroup) -> m.ResultGroup:
    count = len(group.indices)
    return m.ResultGroup(
        group.job,
        group.attempt,
        group.indices,
        bytes(count),
        [_RESULT] * count,
        count * _TASK_SECONDS,
    )


if __name__ == "__main__":
    sys.exit(main())
