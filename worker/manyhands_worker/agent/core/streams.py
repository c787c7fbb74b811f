"""Ends of pipes that travel: deposits, claims, and streams between hosts.

A process that pickles an end deposits a duplicate of its descriptor. A process on the same host that
unpickles it is given that very descriptor. For one on another host both agents become ends of a stream.
Each moves bytes between the other agent and a descriptor of its host, as far as the receiver lets it.

What a process has printed before it wrote to a stream is shown before what comes out of that stream.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.deposits import Deposit, Deposits
from manyhands_worker.agent.core.model import Member
from manyhands_worker.agent.core.stream import WINDOW_BYTES, Stream
from manyhands_worker.agent.core.tables import Tables

_UNCLAIMABLE = (
    "the process that sent it has let go of it, or another process has taken it; "
    "send it once for each process"
)
#: What a process is told that connects to what does not listen any more.
REFUSED = "nothing listens there any more"
_STAYS = (
    "an open socket or file cannot leave its host; "
    "start the process there with Process(..., node=...)"
)
#: What the other end does: where the claimer receives, the depositor's side sends.
_OPPOSITE = {c.RECEIVES: c.SENDS, c.SENDS: c.RECEIVES, c.BOTH: c.BOTH, c.CONNECTS: c.BOTH}


class Streams:
    """Takes what members and other agents say of ends, and what happens to the descriptors here.

    Args:
        tables: of the agent.
        out: effects, in order.
        send: sends to the broker if the link is ready.
        agent: this agent's id.
    """

    def __init__(
        self,
        tables: Tables,
        out: list[effects.Effect],
        send: Callable[[m.Message], None],
        agent: bytes,
    ) -> None:
        self.deposits = Deposits(lambda fds: out.append(effects.CloseDescriptors(fds)))
        self._tables = tables
        self._out = out
        self._send = send
        self._agent = agent
        self._streams: dict[bytes, Stream] = {}
        #: Streams with bytes that wait for output to be shown, by program.
        self._delayed: dict[bytes, list[Stream]] = {}
        tables.when_shown = self._shown
        tables.when_ended = self.deposits.holder_ended
        tables.when_left = lambda program: self.deposits.program_left(program, tables.now)
        #: What members say, with descriptors or without.
        self.from_members: dict[type, Callable[[Member, events.Heard, Any], None]] = {
            c.Deposit: self._deposit,
            c.Open: self._claim,
            c.Shut: self._undeposit,
        }
        #: What takes each message of the broker.
        self.receivers: dict[type, Callable[[Any], None]] = {
            c.Open: self._claimed_elsewhere,
            c.Opened: self._opened,
            c.Flow: self._flow,
            c.Grant: self._grant,
            c.Shut: self._shut,
        }

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        return self.deposits.deadline

    def tick(self) -> None:
        """Drop deposits that nothing will claim."""
        self.deposits.tick(self._tables.now)

    def welcomed(self) -> None:
        """Say over a new link what the other agents may not have."""
        for stream in self._streams.values():
            for message in stream.announcements():
                self._send(message)

    # What members say

    def _deposit(self, member: Member, event: events.Heard, message: c.Deposit) -> None:
        if len(event.descriptors) != 1:
            self._out.append(effects.CloseDescriptors(event.descriptors))
            self._answer(event.channel, message.end, "a deposit is one descriptor")
            return
        # What listens ends with its process: nothing would answer those that connect.
        holder = member.id if message.way == c.CONNECTS else message.holder
        deposit = Deposit(event.descriptors[0], member.program, message.way, message.kept, holder)
        self.deposits.add(message.end, deposit)
        self._answer(event.channel, message.end, "")

    def _undeposit(self, member: Member, _: events.Heard, message: c.Shut) -> None:
        if self.deposits.find(message.stream, member.program) is not None:
            self.deposits.drop(message.stream)

    def _claim(self, member: Member, event: events.Heard, message: c.Open) -> None:
        claim = c.Open(
            message.stream, message.end, member.id, member.program, message.agent, message.way
        )
        if claim.agent == self._agent:
            self._claim_here(event.channel, claim)
        elif claim.way == c.DESCRIPTOR:
            self._answer(event.channel, claim.stream, _STAYS)
        else:
            stream = Stream(
                claim.stream, claim.program, claim.agent, claim=claim, channel=event.channel
            )
            stream.limit(claim.way)
            self._streams[stream.id] = stream
            self._send(claim)

    def _claim_here(self, channel: int, claim: c.Open) -> None:
        deposit = self.deposits.find(claim.end, claim.program)
        if deposit is None or deposit.way != claim.way:
            self._answer(channel, claim.stream, _UNCLAIMABLE)
            return
        answer = c.Opened(claim.stream, self._agent, 0, "")
        if claim.way == c.CONNECTS:
            refusal = c.Opened(claim.stream, self._agent, 0, REFUSED)
            self._out.append(effects.Connect(channel, answer, refusal, deposit.descriptor))
            return
        self._out.append(effects.Tell(channel, answer, [deposit.descriptor]))
        if not deposit.kept:
            self.deposits.take(claim.end)
            self._out.append(effects.CloseDescriptors([deposit.descriptor]))

    def _answer(self, channel: int, name: bytes, error: str) -> None:
        self._out.append(effects.Tell(channel, c.Opened(name, self._agent, 0, error)))

    # What other agents say, by the broker

    def _claimed_elsewhere(self, claim: c.Open) -> None:
        stream = self._streams.get(claim.stream)
        if stream is None:
            deposit = self.deposits.find(claim.end, claim.program)
            if deposit is None or deposit.way != claim.way or claim.way == c.DESCRIPTOR:
                self._send(c.Opened(claim.stream, claim.agent, 0, _UNCLAIMABLE))
                return
            stream = self._streams[claim.stream] = Stream(claim.stream, claim.program, claim.agent)
            stream.limit(_OPPOSITE[claim.way])
            keep = deposit.kept or claim.way == c.CONNECTS
            if not keep:
                self.deposits.take(claim.end)
            self._out.append(effects.Attach(stream.id, deposit.descriptor, deposit.way, copy=keep))
            self._allow(stream)
        self._send(c.Opened(stream.id, stream.peer, stream.received, ""))

    def _opened(self, message: c.Opened) -> None:
        stream = self._streams.get(message.stream)
        if stream is None:
            if not message.error:
                self._send(c.Shut(message.stream, message.agent, c.GONE, 0))
        elif stream.claim is None:
            for again in stream.again(message.until):
                self._send(again)
        elif message.error:
            del self._streams[stream.id]
            self._answer(stream.channel, stream.id, message.error)
        else:
            claim, stream.claim = stream.claim, None
            answer = c.Opened(stream.id, self._agent, 0, "")
            self._out.append(
                effects.MakeEnd(stream.id, claim.way, claim.member, stream.channel, answer)
            )
            self._allow(stream)

    def _allow(self, stream: Stream) -> None:
        if not stream.out_over:
            self._out.append(effects.AllowReading(stream.id, WINDOW_BYTES))

    def _flow(self, message: c.Flow) -> None:
        stream = self._known(message)
        if stream is not None and (data := stream.take(message)):
            self._write(stream, data)

    def _write(self, stream: Stream, data: bytes) -> None:
        program = self._tables.programs.get(stream.program)
        if program is not None and program.unshown:
            self._hold(stream)
            stream.delayed.append(data)
        else:
            self._out.append(effects.Write(stream.id, data))

    def _hold(self, stream: Stream) -> None:
        if not stream.delayed and not stream.delayed_end:
            self._delayed.setdefault(stream.program, []).append(stream)

    def _shown(self, program: bytes) -> None:
        """All output is shown that came before."""
        for stream in self._delayed.pop(program, ()):
            delayed, stream.delayed = stream.delayed, []
            for data in delayed:
                self._out.append(effects.Write(stream.id, data))
            if stream.delayed_end:
                stream.delayed_end = False
                self._end_here(stream)

    def _grant(self, message: c.Grant) -> None:
        stream = self._known(message)
        if stream is None or stream.out_over:
            return
        more = stream.taken(message.until)
        if more:
            self._out.append(effects.AllowReading(stream.id, more))
        self._forget_if_over(stream)

    def _shut(self, message: c.Shut) -> None:
        if message.way == c.GONE:
            self._gone(message.stream)
            return
        stream = self._known(message)
        if stream is None:
            return
        if message.way == c.STOP:
            if not stream.out_over:
                stream.unacknowledged.clear()
                self._out.append(effects.StopReading(stream.id))
                self._send(stream.end())
        elif message.at == stream.received or stream.stopped or stream.in_over:
            self._send(c.Grant(stream.id, stream.peer, message.at + 1))
            if not stream.in_over:
                self._end_incoming(stream)

    def _end_incoming(self, stream: Stream) -> None:
        stream.in_over = True
        if stream.delayed:
            stream.delayed_end = True
        else:
            self._end_here(stream)

    def _end_here(self, stream: Stream) -> None:
        """All has come: the process here finds the end behind it."""
        self._out.append(effects.EndWriting(stream.id))
        self._forget_if_over(stream)

    def _known(self, message: c.Flow | c.Grant | c.Shut) -> Stream | None:
        """Return the stream that a message is about; say so if there is none."""
        stream = self._streams.get(message.stream)
        if stream is None:
            self._send(c.Shut(message.stream, message.agent, c.GONE, 0))
        return None if stream is None or stream.claim is not None else stream

    def _gone(self, name: bytes) -> None:
        stream = self._streams.get(name)
        if stream is None:
            return
        if stream.claim is not None:
            del self._streams[name]
            self._answer(stream.channel, name, _UNCLAIMABLE)
            return
        stream.out_over = True
        self._out.append(effects.StopReading(name))
        if not stream.in_over:
            self._end_incoming(stream)
        self._forget_if_over(stream)

    # What happens to descriptors here

    def read(self, event: events.StreamRead) -> None:
        """Bytes were read; none are the end."""
        stream = self._streams.get(event.stream)
        if stream is not None and not stream.ended and not stream.out_over:
            self._tables.leaving_all()
            self._send(stream.add(event.data) if event.data else stream.end())

    def wrote(self, event: events.StreamWrote) -> None:
        """The process here has been given bytes."""
        stream = self._streams.get(event.stream)
        if stream is not None:
            stream.written += event.count
            grant = stream.grant()
            if grant is not None:
                self._send(grant)

    def broken(self, event: events.StreamBroken) -> None:
        """The process here takes no more."""
        stream = self._streams.get(event.stream)
        if stream is not None and not stream.in_over and not stream.stopped:
            stream.delayed.clear()
            self._send(stream.stop())

    def failed(self, event: events.StreamFailed) -> None:
        """The system gave no descriptor for a stream's end here."""
        stream = self._streams.pop(event.stream, None)
        if stream is not None:
            self._out.append(effects.Log(logging.WARNING, f"no stream: {event.reason}"))
            if stream.channel:
                self._answer(stream.channel, stream.id, event.reason)
            self._send(c.Shut(stream.id, stream.peer, c.GONE, 0))

    def _forget_if_over(self, stream: Stream) -> None:
        if (
            stream.over
            and not stream.delayed_end
            and self._streams.pop(stream.id, None) is not None
        ):
            self._out.append(effects.CloseStream(stream.id))
            forgotten = c.Shut(stream.id, stream.peer, c.FORGOTTEN, 0)
            self._tables.repeats.tell(forgotten)
            self._send(forgotten)
