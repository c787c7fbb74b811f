"""The lone call: its caller sends and receives by itself, since to wake the I/O thread takes longer.

Who holds the session
=====================

The I/O thread, always. No other thread ever changes the session, the jobs or what they are made of. A
caller only uses the link, and only while the I/O thread sleeps and has *lent* it (`lend`). What the
caller did with it stands in a log: `Sent` before a task is sent, `Arrived` behind each read of
the socket. The I/O thread enters the log into the session before it does anything else. The session is
deterministic: handed the same task it says the very message that the caller has sent, which is dropped.

So a lone call costs the session nothing while it is under way, and some dozens of calls are entered
together. The caller ends its own future with what arrived; the session ends it a second time, which
changes nothing. Futures that have callbacks or other waiters are left to the I/O thread.

Who comes in
============

`gate` is held for a few lines: by a caller while it uses the link, by the I/O thread to take the link
back. The I/O thread does not hold it while it works, so no caller waits for a callback. If a caller is
inside for longer than `REVOKE_SECONDS`, a signal handler has stopped it there, and waits for something,
perhaps for the I/O thread. Then a new grant with a new gate takes the place of the old one, and a new
link that of the old one.

What wakes the I/O thread
=========================

- A task or a command that is queued: see `submit_queue`.
- The link's descriptor, unless a caller *spins*: waits for a result without sleeping. Only then
  is the poller told to be quiet, with `spinning` set before and `muted` until the poller listens again.
  The caller undoes that under the gate. The I/O thread does when it finds no spinning caller, or one
  that is overdue. It also does whenever it needs the descriptor itself, for a link that is congested,
  or another link. A caller that is gone from `spinning` touches the poller no more.
- ZeroMQ's descriptors tell of changes only, and any use of a socket may swallow one. So its user
  asks the link whether something is `pending`, and wakes the I/O thread, which asks again.
- A caller that has sent its task over a link on which no caller can spin, as ZeroMQ's. The I/O thread
  enters the log while the task is away. Else it would do so before it hands over the result.
- Its own deadlines. The log is due in `KEEP_SECONDS`: a caller that has logged something wakes the I/O
  thread if that would sleep for longer.

What an exception between any two bytecodes leaves behind
=========================================================

A signal handler, `PyThreadState_SetAsyncExc`, or a stack or memory that is used up may end the caller's
lines anywhere. Locks are taken with ``with`` alone, which leaves no gap. Everything else is one of three
marks, each set by a single store before the step that it guards, and cleared by one after it:

- `torn`: something may have been sent or received in part. No caller uses the link any more, and the
  I/O thread replaces it. The broker and the session then agree on what arrived, as after any lost link.
- `spinning`: the poller may be mute. The ``finally`` that clears it wakes the I/O thread with the very
  first call that it makes.
- a `Sent` in the log: the task counts as submitted, whether or not its caller has heard of that.

If the I/O thread ends, it takes the link back for good, and the spinning caller sees that.
"""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from manyhands._io import spin
from manyhands._io.poller import IN, Poller
from manyhands._io.spin import Spinner
from manyhands_shared.clock import monotonic
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.messages import Accepted, Message, Printed, Results, Status, Submit
from manyhands_shared.transport.link import Link

if TYPE_CHECKING:
    from manyhands._io.open_job import OpenJob
    from manyhands._io.submit_queue import SubmitQueue
    from manyhands._session import Session

#: The log is entered after this many seconds, between two calls if there are any. Half full, it is
#: entered while a task is away. To enter it takes 35 µs a call: the next one waits for a longer log.
KEEP_SECONDS = 0.05
MOST_RECORDS = 16
MOST_BYTES = 2 << 20
#: No caller is inside longer than this, unless a signal handler keeps it there.
REVOKE_SECONDS = 1.0
#: A spinning caller is overdue so much later than it should have left.
_SLACK_SECONDS = 0.01
_OK = int(Status.OK)


class LoneFuture(Protocol):
    """What a lone caller needs of the future that it waits for."""

    def done(self) -> bool:
        """Whether it has ended, one way or another."""

    def settle_quietly(self, body: Payload, /) -> bool:
        """End with a result; false where another thread has to be told of it."""


class LoneSink(Protocol):
    """What a lone caller needs of its task's job."""

    job: OpenJob

    def future(self, index: int, /) -> LoneFuture | None:
        """Return the future of a task."""


class Sent:
    """A task that a caller has sent, or was about to."""

    __slots__ = ("entered", "future", "index", "job", "message", "payload")

    def __init__(self, job: OpenJob, future: LoneFuture, payload: bytes, message: Submit) -> None:
        self.job = job
        self.future = future
        self.payload = payload
        self.message = message
        self.index = message.groups[0].first
        #: The I/O thread has it.
        self.entered = False


class Arrived:
    """What a caller has received."""

    __slots__ = ("link", "messages")

    def __init__(self, link: Link, messages: list[Message]) -> None:
        self.link = link
        self.messages = messages


class _SpinningCaller:
    """A caller that receives while the poller is mute."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = monotonic() + spin.SPIN_SECONDS + _SLACK_SECONDS


class _Grant:
    """What callers share with the I/O thread. See the module."""

    def __init__(self) -> None:
        self.gate = threading.Lock()
        #: The thread that is inside.
        self.inside: int | None = None
        #: What may be used, while the I/O thread sleeps.
        self.link: Link | None = None
        self.wakes_at = math.inf
        self.log: list[Sent | Arrived] = []
        #: Bytes of arguments and results in the log, and when its first record was written.
        self.nbytes = 0
        self.since = 0.0
        #: What was sent and is not answered.
        self.lone: Sent | None = None
        #: Tasks of the session whose results stand in the log, at its beginning.
        self.answered = 0
        self.torn = False
        #: Lines have come that are to be shown before the results behind them: the I/O thread does that.
        self.printed = False
        self.spinning: _SpinningCaller | None = None
        self.muted = False

    def note(self, record: Sent | Arrived, size: int) -> None:
        """Write into the log what holds `size` bytes of arguments or results."""
        if not self.log:
            self.since = monotonic()
        self.nbytes += size
        self.log.append(record)


class InlineCalls:
    """See the module.

    Args:
        session: read here, and only while the I/O thread sleeps.
        queue: wakes the I/O thread.
        poller: the I/O thread's.
        can_spin: whether to wait without sleeping can be of use.
    """

    def __init__(
        self, session: Session, queue: SubmitQueue, poller: Poller, *, can_spin: bool
    ) -> None:
        self._session = session
        self._queue = queue
        self._ring = queue.ring
        self._modify = poller.modify
        self._spinner = Spinner(can=can_spin and poller.mutes)
        self._grant = _Grant()

    # For callers --------------------------------------------------------------------------------

    def send(self, job: OpenJob, future: LoneFuture | None, payload: bytes) -> bool:
        """Send a task if there is no other; false: queue it."""
        grant, me = self._grant, threading.get_ident()
        if future is None or grant.lone is not None or me in (grant.inside, self._queue.owner):
            return False
        with grant.gate:
            grant.inside = me
            try:
                link = grant.link
                if link is None or grant.torn or grant.lone is not None:
                    return False
                # Perhaps a handler in the spinning caller's own thread, which then does not listen.
                if grant.spinning is not None:
                    return False
                if len(grant.log) >= MOST_RECORDS or grant.nbytes >= MOST_BYTES:
                    return False
                if self._unended(grant):
                    return False
                message = self._session.lone_submit(job.id, _next(grant.log, job), payload)
                if message is None:
                    return False
                sent = Sent(job, future, payload, message)
                grant.torn = True
                grant.note(sent, len(payload))
                link.send(message)
                if grant.link is not link:
                    return sent.entered  # it was taken away meanwhile
                grant.lone = sent
                grant.torn = False
                # Where no caller can spin, the I/O thread takes in the task while that is away.
                if (
                    len(link.descriptors) != 1
                    or link.congested
                    or link.pending()
                    or len(grant.log) >= MOST_RECORDS // 2
                ):
                    self._queue.wake()
            finally:
                grant.inside = None
                if grant.torn:
                    with suppress(BlockingIOError):
                        self._ring()
        return True

    def spin(self, sink: LoneSink, future: LoneFuture, timeout: float | None) -> None:
        """Wait for the result of the only task, as long as that has turned out to be short."""
        grant, me = self._grant, threading.get_ident()
        if me in (grant.inside, self._queue.owner) or not self._spinner.worth_it():
            return
        caller = _SpinningCaller()
        # The I/O thread may be at work for a moment, to enter the log.
        while grant.link is None and not future.done() and monotonic() < caller.until:
            os.sched_yield()
        try:
            with grant.gate:
                grant.inside = me
                link = grant.link
                if (
                    link is None
                    or grant.torn
                    or grant.printed
                    or grant.spinning is not None
                    or link.congested
                    or len(descriptors := link.descriptors) != 1
                    or self._unended(grant) + (grant.lone is not None) > 1
                ):
                    return
                (descriptor,) = descriptors
                grant.spinning = caller
                grant.muted = True
                if grant.link is link:  # no step before: the number may be another link's by then
                    self._modify(descriptor, 0)
                grant.inside = None
            receive = partial(self._receive, grant, caller, sink, future)
            self._spinner.spin_for(descriptor, future.done, timeout, receive)
            with grant.gate:
                grant.inside = me
                if grant.spinning is caller and grant is self._grant:
                    self._modify(descriptor, IN)
                    grant.muted = False
                    grant.spinning = None
                    if self._is_due(grant) or link.pending():
                        self._queue.wake()
                grant.inside = None
        finally:
            if grant.spinning is caller:
                grant.spinning = None
                self._ring()
            if grant.inside == me:
                grant.inside = None

    @property
    def unended(self) -> int:
        """How many tasks have not ended, as long as the I/O thread sleeps."""
        grant = self._grant
        return self._unended(grant) + (grant.lone is not None)

    def _unended(self, grant: _Grant) -> int:
        """How many tasks the session has that no caller has seen the end of."""
        return self._session.unended - grant.answered

    def _receive(
        self, grant: _Grant, caller: _SpinningCaller, sink: LoneSink, future: LoneFuture
    ) -> bool:
        """Take what has come; false if there is nothing more to do here."""
        me = threading.get_ident()  # before the gate: behind it no step may be between
        with grant.gate:
            grant.inside = me
            try:
                link = grant.link
                if grant.spinning is not caller or grant.torn or grant.printed:
                    return False
                if link is None:
                    os.sched_yield()
                    return True  # the I/O thread is at work: it will be back
                grant.torn = True
                garbage = link.garbage
                messages = link.receive()
                if messages:
                    grant.note(Arrived(link, messages), sum(map(_size, messages)))
                # Garbage may be a message into whose decoding an exception came.
                if grant.link is not link or link.garbage != garbage:
                    return False
                grant.torn = False
                lone, settled, more = grant.lone, not link.pending(), False
                for message in messages:
                    if type(message) is Printed:
                        grant.printed, settled = True, False
                        break
                    if type(message) is Accepted:
                        continue  # it only says that nothing need be sent again
                    body = _result_of(message, lone, sink, future)
                    if body is None:
                        more = True  # the I/O thread's to answer, while this one spins on
                    elif not future.settle_quietly(body):
                        settled = False
                    elif lone is not None:
                        grant.lone = None
                    else:
                        grant.answered += 1
                if more or not settled:
                    self._queue.wake()
                return settled
            finally:
                grant.inside = None
                if grant.torn:
                    with suppress(BlockingIOError):
                        self._ring()

    def _is_due(self, grant: _Grant) -> bool:
        """Whether the I/O thread is to be woken for the log."""
        if not grant.log:
            return False
        return (
            grant.nbytes >= MOST_BYTES // 2
            or monotonic() >= grant.since + KEEP_SECONDS
            or grant.wakes_at > grant.since + 2 * KEEP_SECONDS
        )

    # For the I/O thread -------------------------------------------------------------------------

    def lend(self, link: Link, wakes_at: float) -> None:
        """Let callers use the link: this thread goes to sleep, until then at the latest."""
        self._grant.wakes_at = wakes_at
        self._grant.link = link

    def take_back(self) -> tuple[list[Sent | Arrived], bool]:
        """The link is this thread's again. What was done with it, and whether it must be replaced."""
        grant = self._grant
        torn = not grant.gate.acquire(timeout=REVOKE_SECONDS)
        grant.link = None
        if torn:
            self._grant = _Grant()
            self._grant.muted = True
            grant.spinning = None
            log = [*grant.log]
        else:
            torn, grant.torn = grant.torn, False
            log, grant.log, grant.nbytes = grant.log, [], 0
            grant.lone = None
            grant.answered = 0
            grant.printed = False
            grant.gate.release()
        for record in log:
            if type(record) is Sent:
                record.entered = True
        return log, torn

    def must_listen(self, now: float) -> bool:
        """Whether the poller is mute for no caller, or for one that is overdue."""
        grant = self._grant
        return grant.muted and (grant.spinning is None or now > grant.spinning.until)

    def expel(self) -> None:
        """End what a spinning caller does: the poller is this thread's."""
        grant = self._grant
        if grant.muted:
            with grant.gate:
                grant.spinning = None
                grant.muted = False

    @property
    def deadline(self) -> float | None:
        """When a spinning caller is overdue."""
        caller = self._grant.spinning
        return None if caller is None else caller.until

    def orphan(self) -> list[Sent]:
        """In a forked child: what was sent and not entered. No caller is inside, whatever was here."""
        log, self._grant = self._grant.log, _Grant()
        return [record for record in log if type(record) is Sent and not record.entered]


def _next(log: list[Sent | Arrived], job: OpenJob) -> int | None:
    """The number of a job's next task, if the log knows it."""
    for record in reversed(log):
        if type(record) is Sent and record.job is job:
            return record.index + 1
    return None


def _size(message: Message) -> int:
    """The bytes of the results in a message."""
    if type(message) is not Results:
        return 0
    return sum(total(group.bodies) for group in message.groups)


def _result_of(
    message: Message, lone: Sent | None, sink: LoneSink, future: LoneFuture
) -> Any | None:
    """The result of `future`, if a message brings that and nothing else."""
    if type(message) is not Results or len(message.groups) != 1:
        return None
    (group,) = message.groups
    if len(group.indices) != 1 or group.statuses[0] != _OK or group.job != sink.job.id:
        return None
    if not group.bodies[0]:
        return None  # the broker's word on a held result, which the session has fetched
    index = group.indices[0]
    if lone is not None and lone.job is sink.job and lone.index == index:
        return group.bodies[0] if lone.future is future else None
    return group.bodies[0] if sink.future(index) is future else None
