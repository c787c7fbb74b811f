"""The host agent's process: one loop around the core, the link, the channels and the member server."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from manyhands_shared.coordination.channel import MemberChannel
from manyhands_shared.processes import descriptors
from manyhands_shared.protocol.messages.coordination import Opened, PassedOn
from manyhands_shared.text import printable
from manyhands_shared.transport import peer_credentials
from manyhands_shared.transport.failover import Route
from manyhands_shared.transport.link.connector import Connector, Lost, Up
from manyhands_worker.agent import stream_ends
from manyhands_worker.agent.config import AgentConfig
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.agent_core import AgentCore
from manyhands_worker.agent.host_memory import HostMemories
from manyhands_worker.agent.members import Members
from manyhands_worker.agent.stream_ends import StreamEnds
from manyhands_worker.link_registration import LinkRegistration

log = logging.getLogger("manyhands.agent")

#: The loop turns at least this often.
_TURN_SECONDS = 5.0
#: Reads of a channel that take all that its socket holds.
_READ_OUT = 64
#: From one look at the time to the next, at least.
_TICK_SECONDS = 0.002
#: Without a descriptor for a connection, the agent looks again this much later.
_ACCEPT_SECONDS = 0.5


@dataclass(slots=True)
class _Connection:
    channel: MemberChannel
    #: The member that was forked with it; a process that connected has none.
    member: bytes | None = None
    events: int = selectors.EVENT_READ
    hushed: bool = False
    #: What is to be read out when it is hushed no more.
    unread: list[effects.ReadOut] = field(default_factory=list)


class HostAgent:
    """Everything of a running agent, wired together.

    Args:
        config: what it is.
        listener: where roots, and pool children, connect; it belongs to the agent from now on.
        members: the processes that it makes; None where it makes none.

    Raises:
        OSError: the system gives no descriptor.
    """

    def __init__(
        self, config: AgentConfig, listener: socket.socket, members: Members | None
    ) -> None:
        self._config = config
        self._core = AgentCore(config.identity, HostMemories())
        self._selector = selectors.DefaultSelector()
        self._connector = Connector(Route(config.broker), config.key, key_option="--key-file")
        self._link_registration = LinkRegistration(self._selector, self._connector)
        #: When the core was told of the time last, and when it wants to be told again.
        self._ticked_at = self._tick_by = 0.0
        self._connections: dict[int, _Connection] = {}
        #: Of members that were forked here.
        self._channels: dict[bytes, int] = {}
        #: Numbers of accepted connections; the core numbers those of members that it has forked.
        self._accepted = -1
        self._members = members
        self._streams = StreamEnds(self._selector, self._tell, self._read_output)
        self._code: int | None = None
        descriptors.raise_limit()
        listener.setblocking(False)
        self._listener = listener
        self._accepts = False
        #: When to listen again, after there was no descriptor for a connection.
        self._accept_at = 0.0
        if members is not None:
            members.attach(self._selector, self._tell_of_member)
        if config.lifeline is not None:
            self._selector.register(config.lifeline, selectors.EVENT_READ, self._read_lifeline)
        self._near, self._far = socket.socketpair()
        for end in (self._near, self._far):
            end.setblocking(False)
        self._selector.register(self._near, selectors.EVENT_READ, lambda _: self._signalled())

    def run(self) -> int:
        """Turn until it is over; return the exit code. Call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _left_to_the_loop)
        signal.set_wakeup_fd(self._far.fileno(), warn_on_full_buffer=False)
        try:
            while self._code is None:
                for key, ready in self._selector.select(self._timeout()):
                    key.data(ready)
                self._turn(time.monotonic())
            return self._code
        finally:
            signal.set_wakeup_fd(-1)
            self._close()

    def _timeout(self) -> float:
        if self._connector.pending():
            return 0.0
        until = self._tick_by
        if (deadline := self._connector.deadline) is not None:
            until = min(until, deadline)
        return max(0.0, until - time.monotonic())

    def _turn(self, now: float) -> None:
        for event in self._connector.turn(now):
            match event:
                case Up():
                    self._tell(events.LinkUp())
                case Lost():
                    self._tell(events.LinkLost())
                case _:
                    self._tell(events.Received(event))
        self._tick(now)
        self._link_registration.turn()

    def _tick(self, now: float) -> None:
        """Tell the core of the time, and ask when it wants to know it again.

        Both take longer than to pass a message on. So what comes in the meantime is not asked for its
        time before a moment is over.
        """
        if now < self._ticked_at + _TICK_SECONDS:
            self._tick_by = self._ticked_at + _TICK_SECONDS
            return
        self._ticked_at = now
        self._tell(events.Tick())
        self._tick_by = min(self._core.deadline(), now + _TURN_SECONDS)

        if self._core.ready and not self._accepts:
            if now < self._accept_at:
                self._tick_by = min(self._tick_by, self._accept_at)
                return
            # One whose place another node's agent has is refused, and leaves what connects to the node.
            self._accepts = True
            self._selector.register(self._listener, selectors.EVENT_READ, lambda _: self._accept())

    def _tell(self, event: events.Event) -> None:
        for effect in self._core.handle(event, time.monotonic()):
            self._do(effect)

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Send():
                self._connector.send(effect.message)
            case effects.Tell():
                connection = self._connections.get(effect.channel)
                if connection is not None:
                    self._send_to(connection, effect)
                    self._poll(effect.channel, connection)
            case effects.Drop():
                self._drop(effect.channel)
            case effects.CloseDescriptors():
                for descriptor in effect.descriptors:
                    os.close(descriptor)
            case effects.Reconnect():
                self._connector.reconnect(time.monotonic())
            case effects.Log():
                log.log(effect.level, "%s", effect.text)
            case effects.Stop():
                self._code = effect.code
                if effect.text:
                    print(f"manyhands agent: {printable(effect.text)}", file=sys.stderr)
            case effects.Connect() | effects.MakeEnd() | effects.Attach():
                self._open_stream(effect)
            case (
                effects.AllowReading()
                | effects.StopReading()
                | effects.Write()
                | effects.EndWriting()
                | effects.CloseStream()
            ):
                self._streams.do(effect)
            case _:
                self._do_to_member(effect)

    def _send_to(self, connection: _Connection, effect: effects.Tell) -> None:
        message = effect.message
        try:
            connection.channel.send(message, effect.descriptors)
        except OSError as error:
            if not isinstance(message, Opened):
                raise
            refusal = Opened(message.stream, message.agent, 0, str(error))
            connection.channel.send(refusal)

    # Streams

    def _open_stream(self, effect: effects.Connect | effects.MakeEnd | effects.Attach) -> None:
        match effect:
            case effects.Connect():
                try:
                    stream_ends.connect(effect.listener, partial(self._give, effect))
                except OSError:
                    self._do(effects.Tell(effect.channel, effect.refusal))
            case effects.MakeEnd():
                self._streams.make(effect, partial(self._give, effect))
            case effects.Attach():
                self._streams.attach(effect)

    def _give(self, effect: effects.Connect | effects.MakeEnd, descriptor: int) -> None:
        self._do(effects.Tell(effect.channel, effect.message, [descriptor]))

    def _read_output(self, member: bytes) -> None:
        if self._members is not None:
            self._members.read(member)

    # Channels

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # There is no descriptor for it, and the selector would tell of it again without end.
            self._selector.unregister(self._listener)
            self._accepts = False
            self._accept_at = time.monotonic() + _ACCEPT_SECONDS
            return
        self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        try:
            peer_credentials.check(sock)
        except OSError:
            sock.close()
            return
        self._accepted -= 1
        self._open(self._accepted, MemberChannel(sock), None)

    def _open(self, number: int, channel: MemberChannel, member: bytes | None) -> None:
        connection = self._connections[number] = _Connection(channel, member)
        if member is not None:
            self._channels[member] = number
        self._selector.register(
            channel, connection.events, partial(self._ready, number, connection)
        )

    def _poll(self, number: int, connection: _Connection) -> None:
        """Have the selector poll a channel as it is now."""
        wanted = 0 if connection.hushed else selectors.EVENT_READ
        if connection.channel.congested:
            wanted |= selectors.EVENT_WRITE
        if wanted == connection.events:
            return
        if not connection.events:
            handler = partial(self._ready, number, connection)
            self._selector.register(connection.channel, wanted, handler)
        elif not wanted:
            self._selector.unregister(connection.channel)
        else:
            handler = partial(self._ready, number, connection)
            self._selector.modify(connection.channel, wanted, handler)
        connection.events = wanted

    def _ready(self, number: int, connection: _Connection, ready: int) -> None:
        if self._connections.get(number) is not connection:
            return
        if ready & selectors.EVENT_WRITE:
            connection.channel.flush()
            self._poll(number, connection)
        if ready & selectors.EVENT_READ:
            self._read(number, connection)

    def _read(self, number: int, connection: _Connection) -> None:
        messages = connection.channel.receive()
        if connection.member is not None and self._members is not None:
            # What it printed before it said this goes first.
            self._members.read(connection.member)
        for message, taken in messages:
            if type(message) is PassedOn and len(taken) == 1:
                self._take(socket.socket(fileno=taken[0]))
            else:
                self._tell(events.Heard(number, message, taken))
        if connection.channel.ended:
            self._tell(events.Closed(number))
            self._drop(number)

    def _drop(self, number: int) -> None:
        connection = self._connections.pop(number, None)
        if connection is not None:
            if connection.member is not None:
                del self._channels[connection.member]
            if connection.events:
                self._selector.unregister(connection.channel)
            connection.channel.close()

    def _hush(self, name: bytes, *, on: bool) -> None:
        if self._members is not None:
            self._members.hush(name, on=on)
        number = self._channels.get(name)
        if number is not None:
            connection = self._connections[number]
            connection.hushed = on
            self._poll(number, connection)
            unread = [] if on else connection.unread
            while unread and not connection.hushed:
                self._read_out(unread.pop(0))

    def _read_out(self, effect: effects.ReadOut) -> None:
        """Read what a member has written and said: it comes before what the broker is told next."""
        number = effect.channel
        for _ in range(_READ_OUT):
            if number is None or (connection := self._connections.get(number)) is None:
                break
            if connection.hushed:
                connection.unread.append(effect)
                return
            self._read(number, connection)
            if connection.channel.dry:
                break
        self._tell(effect.then)

    # Members

    def _do_to_member(self, effect: effects.ToMember) -> None:
        members = self._members
        match effect:
            case effects.Fork():
                self._fork(effect)
            case effects.Kill() if members is not None:
                members.kill(effect.member, effect.number)
            case effects.Orphan() if members is not None:
                members.orphan(effect.member)
            case effects.Guard() if members is not None:
                members.guard(effect.until)
            case effects.ReadOut():
                self._read_out(effect)
            case effects.Hush():
                self._hush(effect.member, on=True)
            case effects.Listen():
                self._hush(effect.member, on=False)

    def _tell_of_member(self, event: events.Event) -> None:
        if type(event) is events.Reaped:
            # What it said last is still in its channel, and counts.
            number = self._channels.get(event.member)
            while number is not None and (connection := self._connections.get(number)) is not None:
                self._read(number, connection)
                if connection.channel.dry:
                    break
        self._tell(event)

    def _fork(self, effect: effects.Fork) -> None:
        try:
            if self._members is None:
                raise OSError("this agent starts no processes")
            ours, theirs = socket.socketpair()
            with theirs:
                channel = MemberChannel(ours)
                self._open(effect.channel, channel, effect.member)
                self._members.fork(effect.member, theirs, effect.streams)
            channel.send(effect.start, effect.descriptors)
            self._poll(effect.channel, self._connections[effect.channel])
        except OSError as error:
            self._tell(events.NotForked(effect.member, str(error)))

    # Being told to leave

    def _signalled(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in self._near.recv(64):
                name = signal.Signals(number).name
                now = number == signal.SIGINT or self._core.draining
                self._tell(events.Leave(f"got {name}", now=now))

    def _read_lifeline(self, _: Any) -> None:
        lifeline = self._config.lifeline
        # The process at the other end never writes: it can be read when that end is closed.
        if lifeline is not None and not os.read(lifeline, 64):
            self._selector.unregister(lifeline)
            self._tell(events.Leave("the process that started it has ended", now=True))

    def _close(self) -> None:
        for number in list(self._connections):
            self._drop(number)
        self._streams.close()
        if self._members is not None:
            self._members.close()
        self._connector.close(flush=True)
        self._listener.close()
        self._selector.close()
        self._near.close()
        self._far.close()


def _left_to_the_loop(*_: Any) -> None:
    """The wake-up descriptor brings the signal's number to the loop."""
