"""What passes between the members on one host and the broker.

A message of a member goes on to the broker as it is, in the order in which it came. What it is about
is noted on the way: who waits for which answer. What the broker says goes to the member that waits:
`Response` to the asker, `Placed`, `Began` and `Ended` to the parent, output to the root.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import count
from typing import Any

from manyhands_shared.coordination.kinds import RELEASES
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_shared.protocol.messages.coordination import ENDED, RUNNING, STARTING
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.memory.delegations import Delegations
from manyhands_worker.agent.core.memory.mirrors import Mirrors
from manyhands_worker.agent.core.model import NO_MEMBER, Member, PendingStart
from manyhands_worker.agent.core.output import MAX_BYTES
from manyhands_worker.agent.core.repeats import STARTED
from manyhands_worker.agent.core.streams import Streams
from manyhands_worker.agent.core.tables import Tables

#: Standard output and error.
_STREAMS = 2
#: What the broker sends to members when their program is over.
_ENDINGS = (signal.SIGTERM, signal.SIGKILL)


class Programs:
    """Takes what members and the broker say.

    Args:
        tables: of the agent.
        out: effects, in order.
        send: sends to the broker if the link is ready.
        host: this host's id.
        streams: takes what is about ends of pipes.
        mirrors: the memory of programs.
        delegations: the locks that members take by themselves.
    """

    def __init__(
        self,
        tables: Tables,
        out: list[effects.Effect],
        send: Callable[[m.Message], None],
        host: str,
        streams: Streams,
        mirrors: Mirrors,
        delegations: Delegations,
    ) -> None:
        #: Whether there ever was a root here.
        self.had_root = False
        #: Messages of members that made no sense.
        self.dropped = 0
        self._tables = tables
        self._out = out
        self._send = send
        self._host = host
        self._streams = streams
        self._mirrors = mirrors
        self._delegations = delegations
        self._channels = count(1)
        self._from_members: dict[type, Callable[[Member, Any], None]] = {
            c.Withdraw: self._withdraw,
            c.Began: self._says_began,
            c.ItemsTaken: self._take_items,
            c.OutputTaken: self._take_output,
            c.ExitAcknowledged: self._take_exit,
            c.Unmap: mirrors.unmap,
            c.Pin: mirrors.pin,
            m.Bye: self._bye,
        }
        #: What takes each message of the broker.
        self.receivers: dict[type, Callable[[Any], None]] = {
            c.Program: self._learn,
            c.Start: self._start,
            c.Placed: self._placed,
            c.Began: self._began,
            c.Ended: self._ended,
            c.ExitAcknowledged: self._exit_acknowledged,
            c.Signal: self._signal,
            c.ProcessOutput: self._print,
            c.OutputTaken: self._output_taken,
            c.Response: self._respond,
            c.RecallLock: delegations.recall,
            **mirrors.receivers,
        }

    def welcomed(self, keep: bytes) -> None:
        """Kill what does not count any more, have the rest go on, and repeat what may be lost."""
        tables = self._tables
        kept = {keep[at : at + 16] for at in range(0, len(keep), 16)}
        tables.frozen = False
        for member in tables.members.values():
            self._settle(member, member.id in kept)
        for message in tables.repeats:
            self._send(message)
        for member in tables.members.values():
            for stream, output in member.output.items():
                for again in output.messages(member.id, member.program, stream):
                    self._send(again)
        # Behind all that the member did before: the broker takes nothing of one that has ended.
        for member in tables.members.values():
            if member.ended is not None:
                self._send(member.ended)

    def _settle(self, member: Member, goes_on: bool) -> None:
        tables = self._tables
        if goes_on:
            tables.thaw(member)
        elif member.id in tables.hosted:
            reason = "killed: its host was away for longer than its lease"
            member.reason = member.reason or reason
            self._out.append(effects.Kill(member.id, signal.SIGKILL))
        elif member.phase != ENDED and not tables.repeats.is_asked(member.id, STARTED):
            reason = "the broker was started anew, without the program in its log"
            tables.tell(member, c.Ended(member.id, -signal.SIGKILL, reason))

    def refuse_all(self, reason: str) -> None:
        """Tell roots that the broker has nothing to do with their programs."""
        for program in self._tables.programs.values():
            if program.root is not None:
                root = self._tables.members[program.root]
                self._tables.tell(root, c.Placed(root.id, "", "", reason[: m.EVENT_CHARS]))

    # What members say

    def heard(self, event: events.Heard) -> None:
        """Take a message from a channel."""
        name = self._tables.by_channel.get(event.channel)
        message = event.message
        if name is None:
            self._introduce(event)
        elif type(message) is c.Request and not event.descriptors:
            self._ask(self._tables.members[name], message)
        elif type(message) is c.Start:
            self._ask_start(self._tables.members[name], message, event)
        elif (take := self._streams.from_members.get(type(message))) is not None:
            take(self._tables.members[name], event, message)
        elif type(message) is c.Map:
            if not self._mirrors.map(self._tables.members[name], message, event.descriptors):
                self._reject(event)
        elif type(message) is c.LockWords:
            member = self._tables.members[name]
            if not self._delegations.adopt(member, message, event.descriptors):
                self._reject(event)
        elif (handler := self._from_members.get(type(message))) is None or event.descriptors:
            self._reject(event)
        else:
            handler(self._tables.members[name], message)

    def closed(self, event: events.Closed) -> None:
        """Note that a process has closed its end: one that the agent has not made has ended so."""
        name = self._tables.by_channel.pop(event.channel, None)
        if name is None:
            return
        member = self._tables.members[name]
        member.channel = None
        if not member.hosted and member.phase != ENDED:
            self._end_guest(member)

    def end_roots(self) -> None:
        """The roots here have ended, though their channels may not show it yet."""
        for program in list(self._tables.programs.values()):
            if program.root is not None:
                self._end_guest(self._tables.members[program.root])

    def _end_guest(self, member: Member) -> None:
        if member.leaves:
            self._tables.end(member, 0, "")
        else:
            self._tables.end(member, -signal.SIGKILL, "it ended without a word")

    def _introduce(self, event: events.Heard) -> None:
        message = event.message
        if type(message) is c.Program and len(event.descriptors) == _STREAMS:
            program = self._tables.program(message.program)
            if program.root is None and not self._tables.is_known(message.root):
                out, err = event.descriptors
                program.root, program.streams = message.root, (out, err)
                program.member_key = message.member_key
                self.had_root = True
                root = Member(message.root, message.program, NO_MEMBER, event.channel, RUNNING)
                pid = message.info.get("pid")
                root.pid = pid if type(pid) is int else 0
                root.goes_on = message.info.get("goes_on") is True
                self._tables.add(root)
                self._tables.repeats.ask(message.root, STARTED, message)
                self._send(message)
                return
        elif type(message) is c.MemberHello and not self._tables.is_known(message.member):
            member = Member(message.member, message.program, NO_MEMBER, event.channel, RUNNING)
            member.pid = message.pid
            self._tables.add(member)
            # Only a refusal is answered, and saying it twice is no matter.
            self._tables.repeats.ask(message.member, STARTED, message)
            self._send(message)
            return
        self._reject(event)

    def _reject(self, event: events.Heard) -> None:
        self.dropped += 1
        if event.descriptors:
            self._out.append(effects.CloseDescriptors(event.descriptors))

    def _ask(self, member: Member, message: c.Request) -> None:
        self._tables.unacknowledged_items.settled(member.id, message.settled)
        message = self._delegations.asked(member, message)
        if message.operation in RELEASES:
            self._mirrors.leaving(member.program)
        if message.quiet:
            self._tables.repeats.tell(message)
        else:
            self._tables.repeats.ask(member.id, message.number, message)
        self._send(message)

    def _withdraw(self, member: Member, message: c.Withdraw) -> None:
        self._tables.repeats.answered(member.id, message.number)
        self._tables.unacknowledged_items.forget(member.id, [message.number])
        self._delegations.withdrawn(member, message)
        self._pass_on(member, message)

    def _take_items(self, member: Member, message: c.ItemsTaken) -> None:
        self._tables.unacknowledged_items.forget(member.id, message.numbers)
        self._pass_on(member, message)

    def _pass_on(self, _: Member, message: m.Message) -> None:
        self._tables.repeats.tell(message)
        self._send(message)

    def _take_exit(self, member: Member, message: c.ExitAcknowledged) -> None:
        self._tables.forget_start(message.member)
        self._pass_on(member, message)

    def _take_output(self, member: Member, message: c.OutputTaken) -> None:
        self._pass_on(member, message)
        self._tables.shown(self._tables.programs[member.program], message)

    def _says_began(self, member: Member, message: c.Began) -> None:
        """Pass on that a member runs."""
        if member.hosted and member.phase == STARTING:
            member.phase = RUNNING
            # The server's word of the pid may still be on its way.
            member.pid = member.pid or message.pid
            self._pass_on(member, c.Began(member.id, member.pid))

    def _bye(self, member: Member, _: m.Bye) -> None:
        member.leaves = True

    def _ask_start(self, member: Member, message: c.Start, event: events.Heard) -> None:
        name = message.member
        if message.parent != member.id or name in self._tables.starts or not message.bodies:
            self._reject(event)
            return
        *bodies, local = message.bodies
        out_err, bound = event.descriptors[:_STREAMS], event.descriptors[_STREAMS:]
        streams = (out_err[0], out_err[1]) if len(out_err) == _STREAMS else None
        self._tables.starts[name] = PendingStart(member.id, streams, bound, local)
        member.started.add(name)
        start = c.Start(name, member.id, member.program, message.options, message.carries, bodies)
        self._mirrors.leaving(member.program)
        self._tables.repeats.ask(name, STARTED, start)
        self._send(start)

    # Processes here

    def forked(self, event: events.Forked) -> None:
        """Note the process of a member."""
        member = self._tables.members.get(event.member)
        if member is not None:
            member.pid = event.pid

    def not_forked(self, event: events.NotForked) -> None:
        """The system gave no process."""
        member = self._tables.members.get(event.member)
        if member is not None and member.phase != ENDED:
            self._tables.end(member, -signal.SIGKILL, f"it was not started: {event.reason}")

    def reaped(self, event: events.Reaped) -> None:
        """A process has ended."""
        member = self._tables.members.get(event.member)
        if member is not None and member.phase != ENDED:
            self._tables.end(member, event.code, member.reason if event.code < 0 else "")

    def printed(self, event: events.Printed) -> None:
        """Send on what a member wrote."""
        member = self._tables.members.get(event.member)
        if member is None or not event.data:
            return
        self._mirrors.leaving(member.program)
        at = member.output[event.stream].add(event.data)
        self._send(c.ProcessOutput(member.id, member.program, event.stream, at, [event.data]))
        self._count_output(member.program, len(event.data))

    # What the broker says

    def _learn(self, message: c.Program) -> None:
        program = self._tables.programs.get(message.program)
        if program is not None:
            program.member_key = message.member_key

    def _start(self, message: c.Start) -> None:
        name = message.member
        if self._tables.is_known(name):
            return
        program = self._tables.program(message.program)
        pending = self._tables.starts.get(name)
        channel = next(self._channels)
        self._tables.add(Member(name, message.program, message.parent, channel, hosted=True))
        bodies = list(message.bodies)
        streams: tuple[int, int] | None = None
        bound: tuple[int, ...] = ()
        if pending is not None:
            bodies.append(pending.local)
            streams, bound = pending.streams, tuple(pending.descriptors)
        # Where the root is not on this host, what a member writes goes to the root through the agent.
        streams = None if program.root is None else streams or program.streams
        start = c.Start(
            name, message.parent, message.program, message.options, message.carries, bodies
        )
        self._out.append(effects.Fork(name, channel, start, streams, bound))
        if pending is not None:
            self._tables.discard(pending)
        if program.output_bytes > MAX_BYTES:
            self._out.append(effects.Hush(name))

    def _placed(self, message: c.Placed) -> None:
        root = self._tables.members.get(message.member)
        if root is not None and not root.hosted:
            self._tables.repeats.answered(message.member, STARTED)
            self._tables.tell(root, message)
            if message.error and self._tables.programs[root.program].root != root.id:
                # A pool's child that the broker does not take.
                self._tables.end(root, 0, "")
            return
        self._tables.tell_parent(message.member, message)
        if message.error:
            self._tables.repeats.answered(message.member, STARTED)
            self._tables.forget_start(message.member)
            self._streams.deposits.holder_ended(message.member)
        elif message.host != self._host and message.member in self._tables.starts:
            self._tables.discard(self._tables.starts[message.member])

    def _began(self, message: c.Began) -> None:
        self._tables.repeats.answered(message.member, STARTED)
        self._tables.tell_parent(message.member, message)

    def _ended(self, message: c.Ended) -> None:
        """A member has ended somewhere: its parent here is told, and so are its children here."""
        name = message.member
        self._tables.repeats.answered(name, STARTED)
        self._streams.deposits.holder_ended(name)
        if name in self._tables.starts:
            self._tables.discard(self._tables.starts[name])
            self._tables.tell_parent(name, message)
        self._tables.orphan_children(name)
        root = self._tables.members.get(name)
        if root is not None and not root.hosted:
            # The broker has ended the program.
            self._tables.tell(root, message)

    def _exit_acknowledged(self, message: c.ExitAcknowledged) -> None:
        member = self._tables.members.get(message.member)
        if member is not None and member.ended is not None:
            self._tables.acknowledged(member)

    def _signal(self, message: c.Signal) -> None:
        member = self._tables.members.get(message.member)
        if message.member in self._tables.hosted:
            self._out.append(effects.Kill(message.member, message.number))
        elif member is not None and member.phase != ENDED and message.number in _ENDINGS:
            # A pool's child goes on without the program.
            self._tables.end(member, 0, "")

    def _print(self, message: c.ProcessOutput) -> None:
        program = self._tables.programs.get(message.program)
        if program is not None:
            self._tables.show(program, message)

    def _output_taken(self, message: c.OutputTaken) -> None:
        member = self._tables.members.get(message.member)
        if member is None:
            return
        output = member.output[message.stream]
        freed = output.taken(message.until)
        if not freed and output.lacks(message.until):
            # The root lacks what comes behind: it was lost with a link.
            for again in output.messages(member.id, member.program, message.stream):
                self._send(again)
        self._count_output(member.program, -freed)
        if member.phase == ENDED and member.ended is None and not member.output_waits:
            self._tables.forget(member)

    def _count_output(self, name: bytes, count: int) -> None:
        """Have a program's members wait while too much of their output waits for the root."""
        program = self._tables.programs[name]
        was_full = program.output_bytes > MAX_BYTES
        program.output_bytes += count
        if was_full != (program.output_bytes > MAX_BYTES):
            for member in program.members & self._tables.hosted:
                self._out.append(effects.Listen(member) if was_full else effects.Hush(member))

    def _respond(self, message: c.Response) -> None:
        asked = self._tables.repeats.asked(message.member, message.number)
        if self._tables.repeats.answered(message.member, message.number):
            self._delegations.answered(asked, message)
            self._tables.tell(self._tables.members.get(message.member), message)
