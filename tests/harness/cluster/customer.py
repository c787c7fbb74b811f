"""A client of durable jobs that speaks the protocol by hand, to share no fault of the library."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Self

import zmq
from zmq.utils.monitor import parse_monitor_message

from harness.cluster.ledger import Ledger, run
from harness.payloads import code_of
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads import pickled
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.status import Status
from manyhands_shared.transport import zmq_pieces

_RECONNECT_MS = 50


class Customer:
    """Submits durable jobs all the time, in a thread, and books what is acknowledged and delivered.

    A result that comes again is no second delivery as long as it is the same one. The broker sends
    everything from the start to sessions that attach anew.
    """

    def __init__(self, address: str, ledger: Ledger, *, batch: int = 20, ahead: int = 20) -> None:
        self.ledger = ledger
        self.address = address
        self._batch = batch
        self._ahead = ahead
        self._context = zmq.Context()
        self._digest, self._code = code_of(run)
        self._jobs: dict[str, range] = {}
        self._accepted: set[str] = set()
        self._seen: dict[int, tuple[int, int]] = {}
        self._missing: dict[str, set[int]] = {}
        self._next = 0
        self._hello_at = 0.0
        self._taken = self._acknowledged = 0
        self._open = False
        self._submitting = True
        self._running = True
        self._thread = threading.Thread(target=self._run, name="customer")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join()
        self._context.destroy(linger=0)

    def finish(self) -> None:
        """Submit nothing more."""
        self._submitting = False

    @property
    def drained(self) -> bool:
        """Whether everything that was submitted has been acknowledged and delivered."""
        self.ledger.check()
        return not self._submitting and not self._jobs

    # All below runs in the customer's thread.

    def _run(self) -> None:
        try:
            self._link()
            while self._running:
                for socket, _ in self._poller.poll(20):
                    if socket is self._monitor:
                        self._event()
                        break
                    self._receive()
                if not self._open and time.monotonic() > self._hello_at + 2.0:
                    self._hello()
                self._submit()
        except BaseException as error:  # noqa: BLE001 - told by the ledger
            self.ledger.fail("the customer", error)
        finally:
            self._unlink()

    def _link(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.identity = secrets.token_bytes(16)
        self._socket.reconnect_ivl = _RECONNECT_MS
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._socket.connect(self.address)
        self._poller = zmq.Poller()
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._socket, zmq.POLLIN)
        self._open = False
        self._hello_at = time.monotonic()

    def _unlink(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()

    def _event(self) -> None:
        event = parse_monitor_message(self._monitor.recv_multipart())["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._hello()
        else:
            self._unlink()
            self._link()

    def _hello(self) -> None:
        self._hello_at = time.monotonic()
        # A new session for every link: what counts is what the journal has.
        self._taken = self._acknowledged = 0
        self._send(m.ClientHello(m.PROTOCOL_VERSION, secrets.token_bytes(16), "customer", 0, 0, {}))

    def _send(self, message: m.Message) -> None:
        try:
            self._socket.send_multipart(zmq_pieces.cut(wire.encode(message)), zmq.NOBLOCK)
        except zmq.Again:
            self._unlink()
            self._link()

    def _receive(self) -> None:
        try:
            message = wire.decode(zmq_pieces.join(self._socket.recv_multipart(zmq.NOBLOCK)))
        except (zmq.Again, ProtocolError):
            return
        match message:
            case m.ClientWelcome():
                self._open = True
                for job in list(self._jobs):
                    if job not in self._accepted:
                        self._send_job(job)
                    self._send(m.Attach(job))
            case m.Who():
                self._hello()
            case m.Need(digest) if digest == self._digest:
                self._send(m.Function(self._digest, "run", [self._code]))
            case m.Ping(counter):
                self._send(m.Pong(counter))
            case m.Accepted(jobs):
                self._acknowledge(jobs)
            case m.Rejected(job, first, reason):
                raise AssertionError(f"job {job} was rejected from {first} on: {reason}")
            case m.Results(seq, groups):
                self._taken = seq
                for group in groups:
                    self._book(group)
                self._send(m.Ack(seq))
            case _:
                pass

    def _acknowledge(self, jobs: list[m.JobCount]) -> None:
        for count in jobs:
            tasks = self._jobs.get(count.job)
            if tasks is not None and count.tasks:
                self._accepted.add(count.job)
                self.ledger.acknowledged.update(tasks[: count.tasks])

    def _book(self, group: m.ResultGroup) -> None:
        tasks = self._jobs.get(group.job)
        if tasks is None:
            return
        for index, status, body in zip(group.indices, group.statuses, group.bodies, strict=True):
            task = tasks[index]
            assert status == Status.OK, f"task {task} ended as {Status(status).name}: {body!r:.300}"
            shown = (status, group.attempt)
            if task not in self._seen:
                self._seen[task] = shown
                self.ledger.deliver(task, pickled.loads(body))
                assert self.ledger.results[task] == task, "the result of another task"
            elif self._seen[task] != shown:
                self.ledger.conflicts.append(task)
            self._missing[group.job].discard(task)
        if not self._missing[group.job] and group.job in self._accepted:
            self._send(m.Detach(group.job))
            del self._jobs[group.job], self._missing[group.job]

    def _submit(self) -> None:
        while self._open and self._submitting and len(self._jobs) < self._ahead:
            tasks = range(self._next, self._next + self._batch)
            self._next += self._batch
            job = f"job-{self.ledger.seed}-{tasks.start}"
            self._jobs[job] = tasks
            self._missing[job] = set(tasks)
            self.ledger.submitted.update(tasks)
            self._send_job(job)
            self._send(m.Attach(job))

    def _send_job(self, job: str) -> None:
        bodies = [pickled.dumps(((self.ledger.file, task), {})) for task in self._jobs[job]]
        group = m.SubmitGroup(job, self._digest, {"durable": True}, 0, True, bodies)
        self._send(m.Submit([group]))
