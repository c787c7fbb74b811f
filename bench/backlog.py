"""What a long queue costs the broker: memory of a queued task, and the rate of scheduling.

    python -m bench.backlog

Starts a broker and speaks to it as one client and one node. The node ends each task at once, so the
benchmark measures nothing but the broker. The client replaces each task that has ended: the queue
stays as long as it is.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import sys
import time

import psutil
import zmq

from manyhands.cluster import LocalCluster
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.transport import zmq_pieces

SHORT, LONG = 10_000, 1_000_000
#: Bytes of one task's argument, which the broker has to keep, and of a result.
PAYLOAD = 20
MESSAGE_TASKS = 4_096
FUNCTION = bytes(16)


class Peer:
    """One link to the broker."""

    def __init__(self, address: str) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)

    def say(self, message: m.Message) -> None:
        """Send a message."""
        self.socket.send_multipart(zmq_pieces.cut(wire.encode(message)))

    def hear(self) -> m.Message:
        """The next message; a broker that is silent for long is an error."""
        assert self.socket.poll(30_000), "the broker says nothing"
        return wire.decode(zmq_pieces.join(self.socket.recv_multipart()))


class Script:
    """A client that keeps the queue filled, and a node that empties it."""

    def __init__(self, address: str) -> None:
        self.client, self.node = Peer(address), Peer(address)
        self.submitted = self.ended = self.seq = 0
        self.client.say(m.ClientHello(1, secrets.token_bytes(16), "bench", 0, 0, {}))
        assert isinstance(self.client.hear(), m.ClientWelcome)
        self.client.say(m.Function(FUNCTION, "nothing", [b"code"]))

    def close(self) -> None:
        """Close both links."""
        self.client.socket.close()
        self.node.socket.close()

    def submit(self, count: int) -> None:
        """Add tasks to the job."""
        options = None if self.submitted else {"name": "bench"}
        first, self.submitted = self.submitted, self.submitted + count
        bodies = [b"%0*d" % (PAYLOAD, number) for number in range(first, self.submitted)]
        group = m.SubmitGroup("bench", FUNCTION, options, first, False, bodies)  # type: ignore[arg-type]
        self.client.say(m.Submit([group]))

    def fill(self, count: int) -> None:
        """Submit tasks until there are `count`, and wait until the broker has them."""
        while self.submitted < count:
            self.submit(min(MESSAGE_TASKS, count - self.submitted))
            self.client.hear()  # Accepted

    def join(self) -> None:
        """Let the node in."""
        self.node.say(m.WorkerHello(1, "bench", secrets.token_bytes(16), 2, 8_192, [], {}))

    def turn(self) -> None:
        """Take one message from each side that has one."""
        ready, _, _ = zmq.select([self.client.socket, self.node.socket], [], [], 30)
        if self.node.socket in ready:
            self._work(self.node.hear())
        if self.client.socket in ready:
            self._replace(self.client.hear())

    def _work(self, message: m.Message) -> None:
        if isinstance(message, m.Assign):
            self.seq += 1
            groups = [_done(group) for group in message.groups]
            self.node.say(m.Results(self.seq, groups))
        elif isinstance(message, m.Ping):
            self.node.say(m.Pong(message.counter))

    def _replace(self, message: m.Message) -> None:
        if isinstance(message, m.Results):
            count = sum(len(group.indices) for group in message.groups)
            self.ended += count
            self.client.say(m.Ack(message.seq))
            self.submit(count)


def main() -> int:
    """Measure both queues in turn, print medians and ratios; returns an exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.backlog", description=__doc__)
    parser.add_argument("--tasks", type=int, default=400_000, help="scheduled in each run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runs = [
        [measure(queued, arguments.tasks) for queued in (SHORT, LONG)]
        for _ in range(arguments.repeats)
    ]
    rate = statistics.median(long[0] / short[0] for short, long in runs)
    cpu = statistics.median(short[1] / long[1] for short, long in runs)
    if arguments.json:
        memory = statistics.median(long[2] for _, long in runs) - PAYLOAD
        print(json.dumps({"rate": rate, "CPU": cpu, "bytes beside the payload": memory}))
        return 0
    print("| queued | tasks/s | broker's CPU, µs a task | broker's memory, bytes a queued task |")
    print("|---|---|---|---|")
    for place, queued in enumerate((SHORT, LONG)):
        medians = [statistics.median(run[place][k] for run in runs) for k in range(3)]
        print("| {:,} | {:,.0f} | {:.2f} | {:,.0f} |".format(queued, *medians))
    print(f"\nlong queue against short: rate {rate:.2f}, tasks for the same CPU {cpu:.2f}")
    return 0


def measure(queued: int, tasks: int) -> tuple[float, float, float]:
    """Tasks a second, the broker's CPU in µs for each, its memory in bytes for a queued one."""
    with LocalCluster(
        nodes=0, broker={"bind": "tcp://127.0.0.1:0", "window_tasks": 2 * LONG}
    ) as cluster:
        assert cluster.broker is not None
        broker = psutil.Process(cluster.broker.pid)
        script = Script(cluster.address)
        before = broker.memory_info().rss
        script.fill(queued)
        memory = (broker.memory_info().rss - before) / queued
        script.join()
        while script.ended < tasks // 4:  # until the function's duration is known
            script.turn()
        first, cpu, began = script.ended, _cpu(broker), time.perf_counter()
        while script.ended < first + tasks:
            script.turn()
        seconds, count = time.perf_counter() - began, script.ended - first
        cpu = _cpu(broker) - cpu
        script.close()
    return count / seconds, cpu / count * 1e6, memory


def _done(group: m.AssignGroup) -> m.ResultGroup:
    count = len(group.indices)
    bodies: list[Payload] = [bytes(PAYLOAD)] * count
    return m.ResultGroup(
        group.job,
        group.attempt,
        group.indices,
        bytes(count),
        bodies,
        1e-6 * count,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
