"""The tables of a host agent: programs and members on its host, and processes that they have started."""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Callable

from manyhands_shared.payloads.payload import nbytes
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_shared.protocol.messages.coordination import ENDED, MemberState
from manyhands_worker.agent.core import effects
from manyhands_worker.agent.core.model import NO_MEMBER, HostProgram, Member, PendingStart
from manyhands_worker.agent.core.repeats import Repeats
from manyhands_worker.agent.core.unacknowledged_items import UnacknowledgedItems

#: How long an id is remembered whose end the broker has taken, so that no second process gets it.
_REMEMBER_SECONDS = 600.0
#: How long what an ended member wrote waits for its root.
_LINGER_SECONDS = 60.0
#: From SIGTERM to SIGKILL at the end of a program.
KILL_SECONDS = 5.0


class Tables:
    """Who is there, and how each comes to its end. `now` is set by the core before each event.

    Args:
        out: effects, in order.
        send: sends to the broker if the link is ready.
    """

    def __init__(self, out: list[effects.Effect], send: Callable[[m.Message], None]) -> None:
        self.now = 0.0
        self.repeats = Repeats()
        self.unacknowledged_items = UnacknowledgedItems()
        self.programs: dict[bytes, HostProgram] = {}
        self.members: dict[bytes, Member] = {}
        self.by_channel: dict[int, bytes] = {}
        self.starts: dict[bytes, PendingStart] = {}
        #: Members here by their parent, wherever that is.
        self.children: dict[bytes, set[bytes]] = {}
        #: Members whose processes the agent has made and that have not ended.
        self.hosted: set[bytes] = set()
        #: Whether members were stopped, since the lease had run out.
        self.frozen = False
        #: Called when no output of a program waits to be shown; when a member here has ended; when
        #: the last of a program is gone.
        self.when_shown: Callable[[bytes], None] = _ignore
        self.when_ended: Callable[[bytes], None] = _ignore
        self.when_left: Callable[[bytes], None] = _ignore
        #: Ended members that are kept a while, and ids: when each is forgotten.
        self._lingering: OrderedDict[bytes, float] = OrderedDict()
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        #: Sends what was written to the memory of a program; takes a member's memory that has ended.
        self.leaving: Callable[[bytes], None] = lambda _program: None
        self.leaving_all: Callable[[], None] = lambda: None
        self.let_go: Callable[[bytes], None] = lambda _member: None
        #: Tells what an ended member had of the locks that were delegated to it.
        self.return_locks: Callable[[Member], None] = lambda _member: None
        self._out = out
        self._send = send

    @property
    def roots(self) -> int:
        """Programs whose root is here and has not ended."""
        return sum(one.root is not None for one in self.programs.values())

    @property
    def unacknowledged(self) -> int:
        """Members that have ended here without the broker's word that it knows."""
        return sum(one.ended is not None for one in self.members.values())

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        times = [one.kill_at for one in self.programs.values()]
        times += [next(iter(one.values()), None) for one in (self._lingering, self._remembered)]
        return min((at for at in times if at is not None), default=None)

    def states(self) -> list[MemberState]:
        """All members here, for the hello."""
        return [
            MemberState(one.id, one.program, one.parent, one.phase, one.pid)
            for one in self.members.values()
        ]

    def rooted(self) -> bytes:
        """The programs whose root is here, for the hello."""
        return b"".join(one.id for one in self.programs.values() if one.root is not None)

    def is_known(self, name: bytes) -> bool:
        """Whether a member of this id is here, or was."""
        return name in self.members or name in self._remembered

    def program(self, name: bytes) -> HostProgram:
        """Return a program; one that is new has no root here."""
        program = self.programs.get(name)
        if program is None:
            program = self.programs[name] = HostProgram(name)
        return program

    def add(self, member: Member) -> None:
        """Enter a member."""
        self.members[member.id] = member
        self.program(member.program).members.add(member.id)
        if member.parent != NO_MEMBER:
            self.children.setdefault(member.parent, set()).add(member.id)
        if member.channel is not None:
            self.by_channel[member.channel] = member.id
        if member.hosted:
            self.hosted.add(member.id)

    def tell(self, member: Member | None, message: m.Message) -> None:
        """Send a message to a member, if it is there and listens.

        What was printed elsewhere before is shown by the root first. Else the member might print
        on the root's terminal what follows from it.
        """
        if member is None or member.channel is None:
            return
        program = self.programs[member.program]
        if program.unshown and program.root != member.id:
            program.delayed.append((member.id, message))
        else:
            self._out.append(effects.Tell(member.channel, message))
            if type(message) is c.Response and message.bodies:
                self.unacknowledged_items.note(member.id, message.number)

    def show(self, program: HostProgram, message: c.ProcessOutput) -> None:
        """Have the root show what a member has printed elsewhere."""
        root = self.members.get(program.root or b"")
        if root is not None and root.channel is not None:
            if message.at != c.NOTE_AT:
                length = sum(nbytes(body) for body in message.bodies)
                program.unshown[message.member, message.stream] = message.at + length
            self._out.append(effects.Tell(root.channel, message))

    def shown(self, program: HostProgram, message: c.OutputTaken) -> None:
        """The root has shown output of a member up to a place."""
        key = message.member, message.stream
        if program.unshown.get(key, message.until + 1) <= message.until:
            del program.unshown[key]
            self.release(program)

    def release(self, program: HostProgram) -> None:
        """Send what was delayed, unless there is more to be shown first."""
        if not program.unshown:
            delayed, program.delayed = program.delayed, []
            for name, message in delayed:
                self.tell(self.members.get(name), message)
            self.when_shown(program.id)

    def tell_parent(self, name: bytes, message: m.Message) -> None:
        """Send a message to the member here that has started another one."""
        pending = self.starts.get(name)
        if pending is not None:
            self.tell(self.members.get(pending.parent), message)

    # Ends

    def end(self, member: Member, code: int, reason: str) -> None:
        """A member has ended here: tell the broker until it acknowledges that."""
        member.phase = ENDED
        member.ended = c.Ended(member.id, max(-255, min(255, code)), reason[: m.EVENT_CHARS])
        self.hosted.discard(member.id)
        self.repeats.forget(member.id)
        if (taken := self.unacknowledged_items.take(member.id)) is not None:
            self.repeats.tell(taken)
            self._send(taken)
        self.return_locks(member)
        self.leaving(member.program)
        self._send(member.ended)
        self.let_go(member.id)
        self.when_ended(member.id)
        self.orphan_children(member.id)
        for name in list(member.started):
            self.forget_start(name)
        if member.channel is not None:
            self._out.append(effects.Drop(member.channel))
            del self.by_channel[member.channel]
            member.channel = None
        program = self.programs[member.program]
        if program.root == member.id:
            program.root = None
            program.unshown.clear()
            self.release(program)
            self._close(program.streams or ())
            program.streams = None
            self.terminate(program, "its program has ended")

    def acknowledged(self, member: Member) -> None:
        """The broker knows that a member has ended."""
        member.ended = None
        if member.output_waits:
            self._lingering[member.id] = self.now + _LINGER_SECONDS
        else:
            self.forget(member)

    def forget(self, member: Member) -> None:
        """Let go of a member that has ended, but for its id."""
        self._lingering.pop(member.id, None)
        del self.members[member.id]
        self._remembered[member.id] = self.now + _REMEMBER_SECONDS
        siblings = self.children.get(member.parent)
        if siblings is not None:
            siblings.discard(member.id)
            if not siblings:
                del self.children[member.parent]
        program = self.programs[member.program]
        program.members.discard(member.id)
        program.output_bytes -= member.output_waits
        if not program.members:
            del self.programs[program.id]
            self.when_left(program.id)

    def orphan_children(self, name: bytes) -> None:
        """Tell the members here whose parent has ended."""
        for child in self.children.get(name, ()):
            if child in self.hosted:
                self._out.append(effects.Orphan(child))

    def terminate(self, program: HostProgram, reason: str) -> None:
        """Have the processes of a program end soon."""
        for name in program.members & self.hosted:
            member = self.members[name]
            member.reason = member.reason or reason
            self.thaw(member)
            self._out.append(effects.Kill(name, signal.SIGTERM))
            program.kill_at = self.now + KILL_SECONDS

    def kill_hosted(self, reason: str) -> None:
        """Kill every process that the agent has made."""
        for name in self.hosted:
            member = self.members[name]
            member.reason = member.reason or reason
            self._out.append(effects.Kill(name, signal.SIGKILL))

    # Stopping

    def freeze(self) -> None:
        """Stop members whose root is elsewhere: the broker may give away what they hold."""
        if self.frozen:
            return
        self.frozen = True
        for name in self.hosted:
            member = self.members[name]
            if self.programs[member.program].root is None:
                member.frozen = True
                self._out.append(effects.Kill(name, signal.SIGSTOP))

    def thaw_all(self) -> None:
        """Have all members go on: the lease was not over."""
        if self.frozen:
            self.frozen = False
            for name in self.hosted:
                self.thaw(self.members[name])

    def thaw(self, member: Member) -> None:
        """Have a member go on that was stopped."""
        if member.frozen:
            member.frozen = False
            self._out.append(effects.Kill(member.id, signal.SIGCONT))

    # Starts

    def forget_start(self, name: bytes) -> None:
        """Let go of a process that a member here has started: its end is known, or the parent's."""
        pending = self.starts.get(name)
        if pending is not None:
            self.discard(pending)
            del self.starts[name]
            parent = self.members.get(pending.parent)
            if parent is not None:
                parent.started.discard(name)

    def discard(self, pending: PendingStart) -> None:
        """Close what was for the case that a process is placed here."""
        self._close((*(pending.streams or ()), *pending.descriptors))
        pending.streams, pending.descriptors, pending.local = None, [], b""

    def _close(self, descriptors: tuple[int, ...]) -> None:
        if descriptors:
            self._out.append(effects.CloseDescriptors(descriptors))

    def tick(self) -> None:
        """Kill what has not ended in time, and forget what is old."""
        for program in self.programs.values():
            if program.kill_at is not None and self.now >= program.kill_at:
                program.kill_at = None
                for name in program.members & self.hosted:
                    self._out.append(effects.Kill(name, signal.SIGKILL))
        while self._lingering and next(iter(self._lingering.values())) <= self.now:
            self.forget(self.members[next(iter(self._lingering))])
        while self._remembered and next(iter(self._remembered.values())) <= self.now:
            self._remembered.popitem(last=False)

    def validate(self) -> None:
        """Check the invariants. Raises AssertionError."""
        for name in self.hosted:
            assert self.members[name].phase != ENDED, "an ended member is hosted"
        for channel, name in self.by_channel.items():
            assert self.members[name].channel == channel, "a channel leads to another member"
        for program in self.programs.values():
            assert program.members <= self.members.keys(), "a program has unknown members"
            waits = sum(self.members[name].output_waits for name in program.members)
            assert waits == program.output_bytes, "output is counted wrongly"
        for name, pending in self.starts.items():
            assert name in self.members[pending.parent].started, "a start without its parent"


def _ignore(_: bytes) -> None:
    """Nothing depends on it."""
