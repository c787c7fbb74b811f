"""What a host agent decides. The simulator drives it through everything else."""

from __future__ import annotations

import signal

import pytest

from harness.worlds.memory import Memories
from manyhands_shared.protocol.messages import Bye, Lease, Renew
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.agent_core import AgentCore
from manyhands_worker.agent.core.identity import AgentIdentity
from manyhands_worker.agent.core.output import MAX_BYTES

ROOT, PROGRAM, CHILD, OTHER = b"r" * 16, b"p" * 16, b"c" * 16, b"o" * 16
KEY = b"k" * 16


class Agent:
    """An agent of a node on host ``h``, welcomed with a lease of 10 s."""

    def __init__(self, capacity: int = 10) -> None:
        self.core = AgentCore(
            AgentIdentity(b"a" * 16, "h", "n", bytes(16), "@x", capacity), Memories()
        )
        self.now = 0.0
        #: Until when the member server lets members run that may lose what they hold.
        self.guards: list[float] = []
        self.do(events.LinkUp())
        self.hear(c.AgentWelcome(1, b"b" * 16, 10.0, 2.0, b""))

    def do(self, event: events.Event) -> list[effects.Effect]:
        found = self.core.handle(event, self.now)
        self.core.validate()
        self.guards += [one.until for one in found if isinstance(one, effects.Guard)]
        return [one for one in found if not isinstance(one, effects.Guard)]

    def hear(self, message: object) -> list[effects.Effect]:
        """From the broker."""
        return self.do(events.Received(message))  # type: ignore[arg-type]

    def say(self, channel: int, message: object, *descriptors: int) -> list[effects.Effect]:
        """By a member."""
        return self.do(events.Heard(channel, message, list(descriptors)))  # type: ignore[arg-type]

    def root(self) -> None:
        self.say(-1, c.Program(PROGRAM, ROOT, "h", b"m" * 32, {"pid": 7}), 11, 12)
        self.hear(c.Placed(ROOT, "h", "n", ""))

    def member(self, name: bytes = CHILD, parent: bytes = OTHER) -> effects.Fork:
        """A member whose root is wherever it is."""
        found = self.hear(c.Start(name, parent, PROGRAM, {}, b"", [b"1", b"2"]))
        fork = found[0]
        assert isinstance(fork, effects.Fork)
        self.do(events.Forked(name, 99))
        self.say(fork.channel, c.Began(name, 99))
        return fork


def request(number: int, *, quiet: bool = False) -> c.Request:
    return c.Request(CHILD, number, 1, KEY, 1, quiet, None, [])


def test_a_start_goes_to_the_broker_without_what_is_for_this_host() -> None:
    agent = Agent()
    agent.root()
    start = c.Start(CHILD, ROOT, PROGRAM, {"name": "x"}, b"", [b"1", b"2", b"here"])
    found = agent.say(-1, start, 21, 22, 23)
    sent = c.Start(CHILD, ROOT, PROGRAM, {"name": "x"}, b"", [b"1", b"2"])
    assert found == [effects.Send(sent)]
    fork, closed = agent.hear(sent)
    assert fork == effects.Fork(CHILD, 1, start, (21, 22), (23,))
    assert closed == effects.CloseDescriptors((21, 22, 23))
    # It is obeyed once.
    assert agent.hear(sent) == []


def test_what_is_for_this_host_is_closed_where_it_is_placed_elsewhere() -> None:
    agent = Agent()
    agent.root()
    agent.say(-1, c.Start(CHILD, ROOT, PROGRAM, {}, b"", [b"1", b"2", b"here"]), 21, 22, 23)
    placed = c.Placed(CHILD, "elsewhere", "m", "")
    assert agent.hear(placed) == [
        effects.Tell(-1, placed),
        effects.CloseDescriptors((21, 22, 23)),
    ]
    ended = c.Ended(CHILD, 3, "")
    assert agent.hear(ended) == [effects.Tell(-1, ended)]
    assert agent.say(-1, c.ExitAcknowledged(CHILD)) == [effects.Send(c.ExitAcknowledged(CHILD))]


def test_what_may_be_lost_is_said_again_in_order() -> None:
    agent = Agent()
    fork = agent.member()
    messages = [request(1, quiet=True), request(2), request(3, quiet=True), request(4)]
    for message in messages:
        assert agent.say(fork.channel, message) == [effects.Send(message)]
    response = c.Response(CHILD, 2, 0, 0, None, [])
    assert agent.hear(response) == [effects.Tell(fork.channel, response)]
    # A second answer to the same request is none.
    assert agent.hear(response) == []
    agent.now = 2.0
    renew = agent.do(events.Tick())
    assert renew == [effects.Send(Renew(1, 0, 10, []))]
    agent.say(fork.channel, request(5, quiet=True))
    agent.hear(Lease(1))
    agent.do(events.LinkLost())
    assert agent.say(fork.channel, request(6)) == []
    agent.do(events.LinkUp())
    again = agent.hear(c.AgentWelcome(1, b"b" * 16, 10.0, 2.0, CHILD))
    assert again == [
        effects.Send(request(4)),
        effects.Send(request(5, quiet=True)),
        effects.Send(request(6)),
    ]


def test_members_are_stopped_before_the_lease_is_over() -> None:
    agent = Agent()
    agent.member()
    agent.now = 8.9
    assert not any(isinstance(one, effects.Kill) for one in agent.do(events.Tick()))
    agent.now = 9.1
    assert effects.Kill(CHILD, signal.SIGSTOP) in agent.do(events.Tick())
    agent.do(events.LinkLost())
    agent.do(events.LinkUp())
    agent.now = 30.0
    kept = agent.hear(c.AgentWelcome(1, b"b" * 16, 10.0, 2.0, CHILD))
    assert effects.Kill(CHILD, signal.SIGCONT) in kept


def test_the_member_server_guards_them_too() -> None:
    agent = Agent()
    assert agent.guards == [9.0]
    agent.now = 3.0
    agent.do(events.Tick())
    agent.now = 3.5
    agent.hear(Lease(1))
    assert agent.guards == [9.0, 12.0]


def test_members_that_do_not_count_any_more_are_killed() -> None:
    agent = Agent()
    agent.member()
    agent.now = 9.1
    agent.do(events.Tick())
    agent.do(events.LinkLost())
    agent.do(events.LinkUp())
    found = agent.hear(c.AgentWelcome(1, b"b" * 16, 10.0, 2.0, b""))
    assert effects.Kill(CHILD, signal.SIGKILL) in found
    [ended] = agent.do(events.Reaped(CHILD, -9))[:1]
    reason = "killed: its host was away for longer than its lease"
    assert ended == effects.Send(c.Ended(CHILD, -9, reason))


def test_members_beside_their_root_are_not_stopped() -> None:
    agent = Agent()
    agent.root()
    agent.member(parent=ROOT)
    agent.now = 9.1
    assert not any(isinstance(one, effects.Kill) for one in agent.do(events.Tick()))


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_the_end_of_a_root_is_the_end_of_its_members(says_goodbye: bool) -> None:
    agent = Agent()
    agent.root()
    agent.member(parent=ROOT)
    if says_goodbye:
        agent.say(-1, Bye(""))
    found = agent.do(events.Closed(-1))
    code, reason = (0, "") if says_goodbye else (-9, "it ended without a word")
    assert found[0] == effects.Send(c.Ended(ROOT, code, reason))
    assert effects.Orphan(CHILD) in found
    assert effects.CloseDescriptors((11, 12)) in found
    assert effects.Kill(CHILD, signal.SIGTERM) in found
    agent.now += 5.0
    assert effects.Kill(CHILD, signal.SIGKILL) in agent.do(events.Tick())


def test_members_wait_until_what_was_printed_elsewhere_is_shown() -> None:
    agent = Agent()
    agent.root()
    fork = agent.member(parent=ROOT)
    agent.say(fork.channel, request(1))
    output = c.ProcessOutput(OTHER, PROGRAM, 1, 0, [b"first\n"])
    assert agent.hear(output) == [effects.Tell(-1, output)]
    response = c.Response(CHILD, 1, 0, 0, None, [])
    assert agent.hear(response) == []
    taken = c.OutputTaken(OTHER, 1, 6)
    assert agent.say(-1, taken) == [effects.Send(taken), effects.Tell(fork.channel, response)]


def test_output_waits_for_a_root_that_does_not_take_it() -> None:
    agent = Agent()
    agent.member()
    half = b"x" * (MAX_BYTES // 2)
    assert len(agent.do(events.Printed(CHILD, 1, half))) == 1
    assert len(agent.do(events.Printed(CHILD, 1, half))) == 1
    assert agent.do(events.Printed(CHILD, 1, b"more"))[1:] == [effects.Hush(CHILD)]
    assert agent.hear(c.OutputTaken(CHILD, 1, len(half))) == [effects.Listen(CHILD)]
    # Said again without progress: the root lacks the rest.
    again = agent.hear(c.OutputTaken(CHILD, 1, len(half)))
    assert [type(one) for one in again] == [effects.Send, effects.Send]
    # A receipt from before that was repeated.
    assert agent.hear(c.OutputTaken(CHILD, 1, 0)) == []


def test_a_member_speaks_for_itself_alone() -> None:
    agent = Agent()
    fork = agent.member()
    forged = c.Start(OTHER, ROOT, PROGRAM, {}, b"", [b"1", b"2", b"3"])
    assert agent.say(fork.channel, forged, 5) == [effects.CloseDescriptors([5])]
    assert agent.say(-9, c.Request(CHILD, 1, 1, KEY, 1, False, None, [])) == []


def test_an_own_agent_leaves_with_its_root() -> None:
    agent = Agent(capacity=0)
    agent.root()
    agent.do(events.Tick())
    agent.do(events.Closed(-1))
    assert not any(isinstance(one, effects.Stop) for one in agent.do(events.Tick()))
    agent.hear(c.ExitAcknowledged(ROOT))
    assert effects.Stop(0, "") in agent.do(events.Tick())


def test_a_broker_that_does_not_know_the_program_ends_it() -> None:
    agent = Agent()
    agent.root()
    agent.do(events.LinkLost())
    agent.do(events.LinkUp())
    found = agent.hear(c.AgentWelcome(1, b"c" * 16, 10.0, 2.0, b""))
    reason = "the broker was started anew, without the program in its log"
    assert found == [effects.Tell(-1, c.Ended(ROOT, -9, reason))]
