"""The loop around the scheduler: read all there is, decide, commit, send.

One ROUTER socket, beside it Unix sockets for this machine and perhaps a node in this process, one
thread. A turn reads what they hold (up to a bound, so that sends are never far away), hands each message
to the core, lets the core conclude the drain, commits the journal once, and sends. A peer whose queue is
full has its messages kept here until it takes them; how many that can be is bounded by the windows of
the protocol.

A commit that fails for lack of room is tried again each second. Until it succeeds nothing leaves that
may rest on what is not written yet (`commit_gate` says what does). Leases go on, so running work is not
lost, and nobody is told of anything that a restart would forget. (Submissions are
refused long before, while there is still room for results; so this is the case of somebody else filling
the disk.) A journal that fails in any other way ends the loop.
"""

from __future__ import annotations

import logging
import math
import os
import select
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import zmq

from manyhands_broker import commit_gate
from manyhands_broker.auth import Door
from manyhands_broker.core import (
    ANYBODY,
    Core,
    Drained,
    Effect,
    Event,
    Forget,
    LinkClosed,
    Persist,
    Received,
    Say,
    Send,
    Stalled,
    Unwatch,
    Unwritable,
    Watch,
)
from manyhands_broker.journal import Journal, JournalFull
from manyhands_broker.ports.encoding import frames_of
from manyhands_broker.ports.inprocess import Lodging
from manyhands_broker.ports.unix import UnixPort
from manyhands_broker.ports.zmq_disconnects import Links
from manyhands_shared.clock import Clock
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Buffer
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import (
    ClientHello,
    Message,
    Ping,
    Refused,
    WorkerHello,
)
from manyhands_shared.spinning import Patience
from manyhands_shared.transport import zmq_pieces

log = logging.getLogger("manyhands.broker")

#: Messages read before the loop decides and sends. More would make the first wait for the last.
DRAIN_MESSAGES = 512
#: The same in time: 512 messages of 4,096 tasks each would take seconds.
DRAIN_SECONDS = 0.05
#: Longest look for what is about to come, in place of sleep, where that is done.
LOOK_SECONDS = 0.0003
#: Longest sleep: the loop notices within this time that it was stopped, and looks at heartbeats.
MAX_WAIT = 1.0
#: Between two attempts to send to a peer whose queue is full.
RETRY_WAIT = 0.005
#: Time missing from the loop's life that counts as a stall. Scheduling noise is far below.
STALL = 0.5
#: Between two attempts to commit to a journal without room.
ROOM_WAIT = 1.0
#: Withheld effects above which nothing more is read.
MAX_WITHHELD = 10_000
_HELLOS = frozenset({ClientHello, WorkerHello})
_LOGGED_PEERS = 1_000

# Plain numbers: arithmetic on pyzmq's enumerations costs as much as sending a small frame.
_EVENTS, _IN = int(zmq.EVENTS), int(zmq.POLLIN)
_NOBLOCK, _RCVMORE = int(zmq.NOBLOCK), int(zmq.RCVMORE)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class Loop:
    """Drives a `Core`: from a bound ROUTER socket, from `unix`, and from the node in its `lodging`."""

    def __init__(
        self,
        router: zmq.Socket[bytes],
        core: Core,
        journal: Journal,
        clock: Clock,
        *,
        watch: Callable[[Watch | Unwatch], None],
        beats: Callable[[float], list[Event]],
        door: Door | None = None,
        links: Links | None = None,
    ) -> None:
        """`watch` is told which nodes to expect heartbeats of; `beats(now)` says what they did.

        `door` knows the keys of peers; without one there are none. Without `links`, the end of a
        connection is noticed when something is to be sent over it.
        """
        self._router = router
        self._core = core
        self._journal = journal
        self._clock = clock
        self._watch = watch
        self._beats = beats
        self._door = door or Door(None)
        # Not ZeroMQ's poller, which asks each socket twice and takes ten times as long. A descriptor of
        # ZeroMQ's only tells that something has changed since its socket was last used: so whoever uses
        # the router says so, and it is asked before the loop sleeps.
        self._poller = select.poll()
        self._descriptor = int(router.fd)
        self._poller.register(self._descriptor, select.POLLIN)
        self._used = True
        self._deaf = False
        self._links = links
        if links is not None:
            self._poller.register(links.descriptor, select.POLLIN)
        self._others: dict[int, Callable[[int], object]] = {}
        #: Connections of processes on this machine.
        self.unix = UnixPort(self._poller, self.on_readable)
        self._lodging: Lodging | None = None
        self._patience = Patience(can=False)
        self._outbox: dict[bytes, deque[list[Any]]] = {}
        #: What waits for room in the journal, and when that is asked for again.
        self._withheld: list[Effect] = []
        self._next_commit = 0.0
        #: Whether readers were sent something in the meantime, so that there may be more.
        self._reading = False
        self._stopping = False
        self._next_beats = 0.0
        self._complained: set[bytes] = set()
        self.counters: Counter[str] = core.counters

    def on_readable(self, descriptor: int, call: Callable[[], object]) -> None:
        """Call `call()` whenever `descriptor` is readable."""
        self.on_ready(descriptor, lambda _: call(), select.POLLIN)

    def on_ready(self, descriptor: int, call: Callable[[int], object], events: int) -> None:
        """Call `call` with what of poll's `events` there is, whenever there is any, or an end."""
        self._others[descriptor] = call
        self._poller.register(descriptor, events)

    def ignore(self, descriptor: int) -> None:
        """Watch `descriptor` no more."""
        if self._others.pop(descriptor, None) is not None:
            self._poller.unregister(descriptor)

    def make_lodging(self) -> Lodging:
        """Make room for a node in this process."""
        self._lodging = Lodging(self.on_ready, self.ignore)
        # Whoever has a node inside serves one user, who may be waiting for a lone task.
        self._patience = Patience(can=True)
        return self._lodging

    def restore(self, effects: list[Effect]) -> None:
        """Do what bringing back earlier jobs asks for, before the first turn."""
        self._do(effects, self._clock())

    @property
    def stuck(self) -> list[str]:
        """Why nothing goes on, in a sentence; empty if all does."""
        return ["the journal cannot be written for lack of room"] if self._withheld else []

    def stop(self) -> None:
        """Return from `run` after this turn."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`."""
        before = self._clock()
        woken = False
        while not self._stopping:
            waiting = self._waiting()
            timeout = 0.0 if waiting else self._timeout(before)
            if timeout > LOOK_SECONDS and woken and self._patience.worth_it():
                ready = self._look(before) or self._poll(timeout)
            else:
                ready = self._poll(timeout)
            woken = bool(ready)
            if waiting:
                ready[self._descriptor] = select.POLLIN
            now = self._clock()
            # Whatever part of this turn was neither waiting nor was asked for was taken from us:
            # SIGSTOP, a suspended machine, a swapped-out process.
            if now - before - timeout > STALL:
                self._stalled(now - before - timeout, now)
            self._turn(ready, now)
            before = self._clock()
            if before - now > STALL:
                self._stalled(before - now, before)
        # What broke while effects were performed is still told.
        self._do(self._core.collect(), before)

    def _poll(self, timeout: float) -> dict[Any, int]:
        return dict(self._poller.poll(math.ceil(timeout * 1000)))

    def _look(self, now: float) -> dict[Any, int]:
        """What becomes ready in a moment; nothing if nothing does."""
        until = now + LOOK_SECONDS
        while not (ready := self._poller.poll(0)):
            if self._clock() >= until:
                self._patience.in_vain()
                return {}
            os.sched_yield()  # to whoever works on what is to come, if it is on this processor
        self._patience.rewarded()
        return dict(ready)

    def _turn(self, ready: dict[Any, int], now: float) -> None:
        effects: list[Effect] = []
        for descriptor, events in ready.items():
            if descriptor in self.unix.descriptors:
                self._take(descriptor, events, effects, now)
            elif (call := self._others.get(descriptor)) is not None:
                call(events)
        if self._links is not None and self._links.descriptor in ready:
            self._links.look(now)
        if self._descriptor in ready and not self._deaf:
            self._drain(effects, now)
        lodging = self._lodging
        if lodging is not None:
            lodging.turn(self._clock())
            for event in lodging.events():
                self._hear(event, effects, now)
        self._probe(effects, now)
        if now >= self._next_beats:
            self._next_beats = now + MAX_WAIT / 2
            for event in (*self._beats(now), *self._door.check(now)):
                self._hear(event, effects, now)
            self._shut_strangers(now)
        self._retry(effects, now)
        if self._withheld:
            self._read_on(now)
        else:
            self._hear(Drained(), effects, now)
        self._do(effects, now)
        if self._journal.working:
            self._journal.work()
        if lodging is not None:
            lodging.turn(self._clock())  # with what it has just been sent
            if lodging.code is not None:
                self.stop()

    def _timeout(self, now: float) -> float:
        wait = MAX_WAIT
        if self._journal.working:
            return 0.0
        if self._withheld:  # the core is not asked to do anything else until then
            wait = 0.0 if self._reading else max(0.0, self._next_commit - now)
        elif self._core.wake_at is not None:
            wait = min(wait, max(0.0, self._core.wake_at - now))
        if self._links is not None and self._links.due is not None:
            wait = min(wait, max(0.0, self._links.due - now))
        if self._lodging is not None:
            wait = min(wait, max(0.0, self._lodging.due - now))
        return min(wait, RETRY_WAIT) if self._outbox else wait

    def _drain(self, effects: list[Effect], now: float) -> None:
        receive, who = self._receive, self._door.who
        links = self._links
        enough = now + DRAIN_SECONDS
        for number in range(DRAIN_MESSAGES):
            if number and self._clock() > enough:
                return
            frame = receive()
            if frame is None:
                return
            peer = frame.bytes
            sender = who(peer, frame)
            if sender is None:
                self.counters["revoked_messages"] += 1
                zmq_pieces.skip(self._router)
                continue
            message = self._read(peer)
            if links is not None:
                links.heard(peer)
            if message is None:
                continue
            if links is not None and type(message) in _HELLOS:
                links.met(peer, frame, sender, now, node=type(message) is WorkerHello)
            self._hear(Received(peer, message, sender), effects, now)

    def _take(self, descriptor: int, events: int, effects: list[Effect], now: float) -> None:
        """What a process on this machine has sent."""
        peer, messages, ended = self.unix.receive(descriptor, events)
        for frames in messages:
            message = self._decode(peer, frames)
            if message is not None:
                self._hear(Received(peer, message, ANYBODY), effects, now)
        if ended:
            self._hear(LinkClosed(peer), effects, now)

    def _read(self, peer: bytes) -> Message | None:
        """The message of which the router has just named the peer."""
        router = self._router
        if not router.get(_RCVMORE):
            return self._decode(peer, [])
        header = router.recv(_NOBLOCK, copy=False).buffer
        if not router.get(_RCVMORE):
            return self._decode(peer, [header])
        try:
            return wire.decode(zmq_pieces.receive(header, router))
        except ProtocolError as error:
            self._complain(peer, error)
            return None

    def _decode(self, peer: bytes, frames: list[Buffer]) -> Message | None:
        try:
            return wire.decode(frames)
        except ProtocolError as error:
            self._complain(peer, error)
            return None

    def _hear(self, event: Event, effects: list[Effect], now: float) -> None:
        try:
            caused = self._core.handle(event, now)
        except Exception as error:
            # One odd message must not end everybody's work.
            kind = type(event.message if isinstance(event, Received) else event).__name__
            self._core.breakdowns.of(error, None, f"{kind} could not be handled")
            log.debug("%s could not be handled", kind, exc_info=True)
            caused = self._core.collect()
        if self._withheld and caused:
            left = commit_gate.forget(self._journal, caused)
            if len(left) < len(caused):
                self._next_commit = now  # there may be room now
            caused = commit_gate.send(left, self._send)
        effects += caused

    def _read_on(self, now: float) -> None:
        """Send readers what the journal holds, while it cannot be written."""
        pages = self._core.handle(Unwritable(), now)
        self._reading = bool(pages)
        if pages:
            self._withheld += commit_gate.read(pages, self._withheld, self._send)

    def _receive(self) -> zmq.Frame | None:
        """The first frame of the next message, if there is one: whose it is."""
        # Asked for first: the exception after a last message costs more than this for each message.
        if not int(self._router.get(_EVENTS)) & _IN:
            self._used = False
            return None
        self._used = True
        try:
            return self._router.recv(_NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def _waiting(self) -> bool:
        """Whether messages wait of which the router's descriptor will not tell."""
        if not self._used or self._deaf:
            return False
        self._used = False
        return bool(int(self._router.get(_EVENTS)) & _IN)

    def _do(self, effects: list[Effect], now: float) -> None:
        """Journal, then everything else, in order. Failed sends are events with effects of their own."""
        while effects or self._withheld:
            for effect in effects:
                if isinstance(effect, Persist):
                    self._journal.append(effect.record)
            if self._withheld:
                effects = self._withheld + effects
            if not self._commit(effects, now):
                self._withhold(effects)
                return
            closed: dict[bytes, None] = {}
            for effect in effects:
                match effect:
                    case Send(peer, message):
                        if not self._send(peer, message):
                            closed[peer] = None
                        elif type(message) is Refused and self._links is not None:
                            self._links.forget(peer, now)
                    case Forget(peer):
                        self._outbox.pop(peer, None)
                        self._door.forget(peer)
                        if self._links is not None:
                            self._links.forget(peer, now)
                    case Watch() | Unwatch():
                        self._watch(effect)
                    case Say(level, text):
                        log.log(level, "%s", text)
            effects = []
            for event in (*map(LinkClosed, closed), *([Drained()] if closed else ())):
                self._hear(event, effects, now)

    def _commit(self, effects: list[Effect], now: float) -> bool:
        """Write what was appended of `effects`; false if there is no room, or was none a moment ago."""
        if self._withheld and now < self._next_commit:
            return False
        try:
            commit_gate.commit(self._journal, effects)
        except JournalFull as error:
            if not self._withheld:
                log.error("%s; nothing goes on until then", error)  # noqa: TRY400 - one line
            self._next_commit = now + ROOM_WAIT
            return False
        if self._withheld:
            log.warning("there is room in the journal again")
            self._withheld = []
            self._listen(yes=True)
        return True

    def _withhold(self, effects: list[Effect]) -> None:
        """Keep back all that may rest on what is not written."""
        self._withheld = []
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, commit_gate.PROMISE_NOTHING):
                # Should the link be gone, the next send over it says so.
                self._send(effect.peer, effect.message)
            elif not isinstance(effect, Persist):
                self._withheld.append(effect)
        # Never empty: it also says that there is something to commit.
        self._withheld = self._withheld or [Say(logging.DEBUG, "nothing was withheld")]
        if len(self._withheld) >= MAX_WITHHELD and not self._deaf:
            self._listen(yes=False)

    def _listen(self, *, yes: bool) -> None:
        """Whether messages are read."""
        if yes is not self._deaf:
            return
        self._deaf, self._used = not yes, True
        self.unix.listening(yes)
        if yes:
            self._poller.register(self._descriptor, select.POLLIN)
        else:
            self._poller.unregister(self._descriptor)

    def _send(self, peer: bytes, message: Message) -> bool:
        """Send or keep for later; false if there is no such link."""
        if self._lodging is not None and self._lodging.send(peer, message):
            return True
        return self._post(peer, frames_of(message, self._core.breakdowns))

    def _post(self, peer: bytes, frames: list[Any]) -> bool:
        if self.unix.send(peer, frames):
            return True
        waiting = self._outbox.get(peer)
        if waiting is not None:
            waiting.append(frames)
            return True
        self._used = True
        frames = zmq_pieces.cut(frames)
        try:
            send = self._router.send
            send(peer, _MORE)
            for frame in frames[:-1]:
                send(frame, _MORE, copy=False)
            send(frames[-1], _NOBLOCK, copy=False)
        except zmq.Again:
            self._outbox[peer] = deque([frames])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def _retry(self, effects: list[Effect], now: float) -> None:
        for peer in list(self._outbox):
            waiting = self._outbox.pop(peer)
            while waiting:
                frames = waiting.popleft()
                if not self._post(peer, frames):
                    self._hear(LinkClosed(peer), effects, now)
                    break
                if peer in self._outbox:
                    self._outbox[peer].extend(waiting)
                    break

    def _probe(self, effects: list[Effect], now: float) -> None:
        """See whether those are gone whose connections have ended; end those that only ever begin."""
        if self._links is None:
            return
        for peer in self._links.doubtful(now):
            if not self._send(peer, Ping(0)):
                self._hear(LinkClosed(peer), effects, now)
        if shut := self._links.bound(now):
            self.counters["refused_arriving"] += shut
            log.warning("%d connections were shut: too much came, and no message ended", shut)

    def _shut_strangers(self, now: float) -> None:
        """Shut connections that had the time to say hello, unless it may be waiting to be read."""
        if self._links is None or self._deaf:
            return
        self._used = True
        if not int(self._router.get(_EVENTS)) & _IN:
            self.counters["connections_shut"] += self._links.strangers.turn(now)

    def _stalled(self, seconds: float, now: float) -> None:
        # A node inside starts processes, which may take a while where much else is going on.
        level = logging.WARNING if self._lodging is None else logging.INFO
        log.log(level, "the broker did not run for %.1f s; leases are extended by that", seconds)
        if self._links is not None:
            self._links.strangers.stalled(now)
        effects: list[Effect] = []
        self._hear(Stalled(seconds), effects, now)
        self._do(effects, now)

    def _complain(self, peer: bytes, error: ProtocolError) -> None:
        self.counters["invalid_messages"] += 1
        if peer not in self._complained and len(self._complained) < _LOGGED_PEERS:
            self._complained.add(peer)
            log.warning("dropped what peer %s sent: %s", peer.hex()[:12], error)
