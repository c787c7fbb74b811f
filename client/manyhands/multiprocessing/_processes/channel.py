"""This process's channel to its host agent: requests that wait for a response, and ones that do not.

Callers send from their own threads. One thread, started when it is first needed, receives: it wakes
callers whose response has come, and hands everything else to the program.

A finalizer may interrupt a caller anywhere, and have something to say itself. What it says in the middle
of another message, the thread says a moment later. It cannot wait for an answer there.

When the agent dies, a root gets a channel to another one. Then it says again what the broker may not
have, in the old order. That is requests without a response, and quiet ones since the last response.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Protocol

from manyhands.multiprocessing._processes.descriptor_exchanges import (
    LONGEST_SECONDS,
    DescriptorExchanges,
)
from manyhands_shared.coordination.channel import MemberChannel
from manyhands_shared.coordination.identity import NO_ID
from manyhands_shared.coordination.kinds import Operation
from manyhands_shared.errors import SharedStateLost
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.thread_start import must_start, start
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.messages.coordination import (
    ItemsTaken,
    Opened,
    Request,
    Response,
    Withdraw,
)

#: How long the caller waits for the keeper's word beyond the end of a wait that the keeper decides.
KEEPER_SECONDS = 5.0
_FLUSH_SECONDS = 5.0
#: After this time without a request the keeper is told which items of queues have come.
_CONFIRM_SECONDS = 0.005

#: Quiet messages that are kept for the case that the agent dies, before the keeper is asked whether it
#: has them.
_QUIET = 256


class Owner(Protocol):
    """What a channel tells, on its own thread."""

    def receive(self, message: Message, descriptors: list[int]) -> None:
        """Take a message that is no response."""

    def reconnect(self) -> MemberChannel | None:
        """Return a channel to another agent; None if there is none, and the program is over."""

    def deadline(self) -> float | None:
        """Return when `tick` is due."""

    def tick(self) -> None:
        """Do what is due."""


class _Wait:
    """A request that waits for its response."""

    __slots__ = ("lock", "request", "response")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.response: Response | None = None
        self.lock = threading.Lock()
        self.lock.acquire()


class Channel:
    """Requests of any thread of this process, over one socket to the agent.

    Args:
        member: this process's id.
        stream: its connection to the agent.
        owner: is told of what comes.
        repeats: whether to keep what may have to be said again to another agent.
    """

    def __init__(
        self, member: bytes, stream: MemberChannel, owner: Owner, *, repeats: bool
    ) -> None:
        self._member = member
        self._stream = stream
        self._owner = owner
        self._repeats = repeats
        self._last = 0
        #: The request whose response came last.
        self._settled = 0
        #: Requests whose responses brought items of queues, until the keeper is told so, and when it is.
        self._taken: list[int] = []
        self._confirm_at = math.inf
        self._tickets = count(1)
        self._waits: dict[int, _Wait] = {}
        #: Quiet messages since the last response, each with the number of the last request before.
        self._quiet: deque[tuple[int, Message]] = deque()
        # A finalizer may come back to it.
        self._lock = threading.RLock()
        self._exchanges = DescriptorExchanges(self._lock)
        #: What finalizers have said in the middle of something.
        self._later: deque[Callable[[], None]] = deque()
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        self._thread: threading.Thread | None = None
        self._closing = False
        #: Why nothing can be said any more.
        self._over = ""
        self._pid = os.getpid()

    # For any thread

    def request(
        self,
        operation: int,
        key: bytes,
        arguments: Any,
        bodies: Sequence[Payload] = (),
        *,
        timeout: float | None = None,
        keeper_decides: bool = False,
    ) -> Response | None:
        """Ask the keeper of an object for an operation, and wait for the response.

        At the end of `timeout`, and when an exception ends the wait, the request is withdrawn: what
        the keeper grants meanwhile is undone.

        Args:
            operation: an `Operation`.
            key: the object's 16 bytes.
            arguments: as the operation has them.
            bodies: payloads that come with it.
            timeout: seconds to wait; None is for ever.
            keeper_decides: the keeper ends the wait at `timeout`. The caller waits 5 s longer for its
                word, as others must agree with it.

        Returns:
            The response; None if the time was over first.

        Raises:
            SharedStateLost: the program is over.
            RuntimeError: a finalizer asks, where it cannot wait.
        """
        self._check_may_wait()
        deadline = None
        if timeout is not None:
            deadline = time.monotonic() + timeout + (KEEPER_SECONDS if keeper_decides else 0)
        wait = self._ask(operation, key, arguments, bodies)
        number = wait.request.number
        try:
            while not wait.lock.acquire(timeout=_left(deadline)):
                if deadline is not None and time.monotonic() >= deadline:
                    break
        except BaseException:
            self._withdraw(number, key)
            raise
        if wait.response is None:
            if self._over:
                raise SharedStateLost(self._over)
            with self._lock:
                # It may have come just now: what is withdrawn must not be taken as well.
                if wait.response is None:
                    self._drop(number, key)
        return wait.response

    def tell(
        self, operation: int, key: bytes, arguments: Any, bodies: Sequence[Payload] = ()
    ) -> None:
        """Have an operation done that is not answered. It takes effect before all that is sent later.

        Raises:
            SharedStateLost: the program is over.
        """
        if self._is_held:
            self._say_later(partial(self.tell, operation, key, arguments, bodies))
            return
        with self._lock:
            self._say_quietly(self._request(operation, key, True, arguments, bodies))
        if len(self._quiet) > _QUIET:
            # Its response shows that all of it has arrived.
            self._ask(Operation.SYNC, NO_ID, None, ())

    def say(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message that is no request.

        Raises:
            SharedStateLost: the program is over.
        """
        if self._is_held and not descriptors:
            self._say_later(partial(self.say, message))
            return
        with self._lock:
            self._say_quietly(message, descriptors)

    def exchange(
        self, name: bytes, message: Message, descriptors: Sequence[int] = ()
    ) -> tuple[Opened, list[int]]:
        """Say something about a descriptor; return the answer, with the descriptors that it brings.

        Args:
            name: by which the answer is called.
            message: `Deposit` or `Open`.
            descriptors: go along, and stay the caller's.

        Raises:
            SharedStateLost: the agent is gone.
            RuntimeError: a finalizer asks, where it cannot wait.
        """
        self._check_may_wait()
        self.attend()
        with self._lock:
            if self._over:
                raise SharedStateLost(self._over)
            exchange = self._exchanges.begin(name)
            self._send(message, descriptors)
        answer = self._exchanges.wait(name, exchange)
        if answer is None:
            raise SharedStateLost(self._over or "the host agent has ended")
        return answer, exchange.descriptors

    @property
    def may_wait(self) -> bool:
        """Whether this thread can wait for an answer: a finalizer in the middle of a message cannot."""
        thread = self._thread
        return not self._is_held and (thread is None or thread.ident != threading.get_ident())

    @property
    def _is_held(self) -> bool:
        held: bool = self._lock._is_owned()  # type: ignore[attr-defined]
        return held

    def _check_may_wait(self) -> None:
        if not self.may_wait:
            raise RuntimeError("a finalizer cannot wait for an answer: use the object elsewhere")

    def _say_later(self, say: Callable[[], None]) -> None:
        self._later.append(say)
        self.attend_later()

    @property
    def over(self) -> bool:
        """Whether nothing can be said any more."""
        return bool(self._over)

    def acquisition(self) -> int:
        """Return a new ticket: it names one acquisition by this process for ever."""
        return next(self._tickets)

    @property
    def why_over(self) -> str:
        """Why nothing can be said any more; empty while it can."""
        return self._over

    def poke(self) -> None:
        """Have the thread look at what is due, if it runs. It may be called in a finalizer."""
        if self._thread is not None:
            self._poke()

    def attend(self) -> None:
        """Start the thread that receives, if it does not run.

        Raises:
            OSError: the system gives none.
        """
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._over:
                    must_start(thread := self._new_thread())
                    self._thread = thread

    def flush(self) -> None:
        """Wait until everything that was said is with the agent, a few seconds at most."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        poll = select.poll()
        while time.monotonic() < deadline:
            with self._lock:
                self._stream.flush()
                if self._over or self._stream.ended or not self._stream.congested:
                    return
                poll.register(self._stream, select.POLLOUT)
            poll.poll(100)

    def close(self) -> None:
        """End the thread, and the channel: nothing is said or heard any more."""
        self._closing = True
        self._poke()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_FLUSH_SECONDS)
        with self._lock:
            self._end("the program has ended")
            self._stream.close()

    def end(self, reason: str) -> None:
        """Have whatever waits, and whatever is asked later, fail: the program is over."""
        with self._lock:
            self._end(reason)

    def disown(self) -> None:
        """In a forked child: the channel is the parent's."""
        self._over = "this process was forked from a member of the program and is none itself"
        self._lock = threading.RLock()
        self._thread = None
        self._stream.close()
        for end in (self._woken, self._wake):
            os.close(end)

    def _ask(self, operation: int, key: bytes, arguments: Any, bodies: Sequence[Payload]) -> _Wait:
        self.attend()
        with self._lock:
            request = self._request(operation, key, False, arguments, bodies)
            wait = _Wait(request)
            if self._over:
                raise SharedStateLost(self._over)
            self._waits[request.number] = wait
            try:
                self._send(request)
            except BaseException:
                # It may have left all the same.
                self._drop(request.number, key)
                raise
        return wait

    def _request(
        self, operation: int, key: bytes, quiet: bool, arguments: Any, bodies: Sequence[Payload]
    ) -> Request:
        self._last += 1
        # What `settled` says is receipt enough for the items that came so far.
        self._taken.clear()
        return Request(
            self._member,
            self._last,
            self._settled,
            key,
            int(operation),
            quiet,
            arguments,
            list(bodies),
        )

    def _withdraw(self, number: int, key: bytes) -> None:
        with self._lock:
            self._drop(number, key)

    def _drop(self, number: int, key: bytes) -> None:
        if self._waits.pop(number, None) is not None or not self._over:
            with contextlib.suppress(SharedStateLost):
                self._say_quietly(Withdraw(self._member, number, key))

    def _say_quietly(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if self._over:
            raise SharedStateLost(self._over)
        if self._repeats:
            self._quiet.append((self._last, message))
        self._send(message, descriptors)

    def _send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        try:
            self._stream.send(message, descriptors)
        finally:
            if self._stream.congested:
                self.attend_later()

    def attend_later(self) -> None:
        """Have the thread go on with what the socket does not take now.

        Where the system gives none, the next caller that waits for an answer is told so.
        """
        self._poke()
        if self._thread is None and start(thread := self._new_thread()):
            self._thread = thread

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="manyhands-member", daemon=True)

    def _poke(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake, b"\0")

    # On the channel's thread

    def _run(self) -> None:
        poll, polled = select.poll(), (self._stream, 0)
        while not (self._closing or self._over):
            stream = self._stream
            wanted = select.POLLIN | (select.POLLOUT if stream.congested else 0)
            if polled != (stream, wanted):
                poll = select.poll()
                poll.register(self._woken, select.POLLIN)
                poll.register(stream, wanted)
                polled = stream, wanted
            due = min(self._owner.deadline() or math.inf, self._confirm_at)
            ready = dict(poll.poll(_milliseconds(due)))
            # Callers wait for what has come, so a look at the rest is taken when it asks for one.
            if self._woken in ready or (due < math.inf and time.monotonic() >= due):
                self._attend_to_rest()
            happened = ready.get(stream.fileno(), 0)
            if happened & select.POLLOUT:
                with self._lock:
                    stream.flush()
            if happened & ~select.POLLOUT:
                for message, descriptors in stream.receive():
                    self._dispatch(message, descriptors)
                if stream.ended and not self._closing:
                    self._go_on()

    def _attend_to_rest(self) -> None:
        """Do what is due, and say what finalizers have left."""
        with contextlib.suppress(OSError):
            os.read(self._woken, 4096)
        self._owner.tick()
        self._confirm()
        while self._later:
            with contextlib.suppress(SharedStateLost):
                self._later.popleft()()

    def _dispatch(self, message: Message, descriptors: list[int]) -> None:
        if type(message) is Opened:
            self._exchanges.answer(message, descriptors)
            return
        if type(message) is not Response:
            self._owner.receive(message, descriptors)
            return
        with self._lock:
            wait = self._waits.pop(message.number, None)
            # Everything that was said before the request has arrived with it.
            while self._quiet and self._quiet[0][0] < message.number:
                self._quiet.popleft()
            if wait is None:
                return
            self._settled = message.number
            wait.response = message
            if message.bodies:
                self._taken.append(message.number)
                self._confirm_at = min(self._confirm_at, time.monotonic() + _CONFIRM_SECONDS)
        wait.lock.release()

    def _confirm(self) -> None:
        """Tell the keeper which items have come, if this process has asked nothing since."""
        if time.monotonic() < self._confirm_at:
            return
        with self._lock:
            self._confirm_at = math.inf
            if self._taken:
                taken, self._taken = self._taken, []
                with contextlib.suppress(SharedStateLost):
                    self._say_quietly(ItemsTaken(self._member, taken))

    def _go_on(self) -> None:
        """The agent is gone: go on with another, or end."""
        stream = self._owner.reconnect()
        with self._lock:
            self._stream.close()
            if stream is None:
                self._end("the host agent has ended, and the program with it")
                return
            self._stream = stream
            self._exchanges.end()
            asked: list[tuple[int, Message]] = [
                (number, wait.request) for number, wait in self._waits.items()
            ]
            for _, message in sorted([*asked, *self._quiet], key=_place_of):
                stream.send(message)

    def _end(self, reason: str) -> None:
        self._over = self._over or reason
        for wait in self._waits.values():
            wait.lock.release()
        self._waits.clear()
        self._exchanges.end()


def _milliseconds(due: float) -> int | None:
    """Return how long to wait for what is due at this time; None is for ever."""
    return None if due == math.inf else max(0, math.ceil((due - time.monotonic()) * 1000))


def _left(deadline: float | None) -> float:
    if deadline is None:
        return LONGEST_SECONDS
    return max(0.0, min(LONGEST_SECONDS, deadline - time.monotonic()))


def _place_of(one: tuple[int, Message]) -> int:
    return one[0]
