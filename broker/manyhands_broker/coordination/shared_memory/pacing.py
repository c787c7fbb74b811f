"""How much of shared memory is on its way to an agent: no more than it reads.

The broker sends pings behind parts and writes, with numbers that no agent can guess. An agent that
answers one has read all that came before. Until then the broker keeps the agent's further questions for
parts, without the parts. And it brings no writes that nothing depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized

from manyhands_broker.coordination.model import Agent
from manyhands_broker.coordination.shared_memory.segments import Segment
from manyhands_broker.coordination.state import CoordinationState
from manyhands_broker.core.model.unread import Unread
from manyhands_shared.protocol.messages import Ping
from manyhands_shared.protocol.messages.coordination import Fetch, FetchPart

#: Bytes that an agent may leave unread before parts wait for it; the agents of a key together.
UNREAD_BYTES = 16 << 20
KEY_UNREAD_BYTES = 256 << 20
#: Parts of each of its segments that an agent may ask for at once.
_MOST_ASKED = 16
#: The most that one part has, and what its message takes beside that.
_PART_BYTES, _OVERHEAD = 4 << 20, 100


class _Key:
    """The agents of one key: what they have not read, and which of them wait."""

    __slots__ = ("unread", "waiting")

    def __init__(self) -> None:
        self.unread = 0
        self.waiting: dict[bytes, None] = {}


class _Reader:
    """What an agent has not read, and what it asks for."""

    __slots__ = ("key", "unread", "wanted")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.unread = Unread(key, "unread")
        self.wanted: dict[tuple[bytes, int, int], Fetch] = {}


class Pacing:
    """What is on its way to each agent.

    Args:
        state: the coordinator's.
        segments: all of them.
        of_agent: the keys of those that each agent has.
    """

    def __init__(
        self,
        state: CoordinationState,
        segments: Mapping[bytes, Segment],
        of_agent: Mapping[bytes, Sized],
    ) -> None:
        self._state = state
        self._segments = segments
        self._of_agent = of_agent
        self._readers: dict[bytes, _Reader] = {}
        self._keys: dict[str, _Key] = {}

    def fetch(self, agent: Agent, message: Fetch) -> None:
        """Send a part of a segment, now or when the agent has read what came before."""
        segment = self._segments.get(message.segment)
        if segment is None or agent.id not in segment.hosts:
            return
        reader = self._reader(agent)
        if not reader.wanted and self._may_send(reader):
            self._send(agent, reader, message)
        elif len(reader.wanted) < _MOST_ASKED * len(self._of_agent[agent.id]):
            reader.wanted[message.segment, message.at, message.size] = message
            reader.key.waiting[agent.id] = None
        else:
            self._state.counters["refused_fetches"] += 1

    def sent(self, agent: Agent, size: int) -> None:
        """Count what an agent was sent; send a ping behind it now and then."""
        self._count(agent, self._reader(agent), size)

    def is_behind(self, agent: Agent) -> bool:
        """Whether an agent has much to read."""
        reader = self._readers.get(agent.id)
        return reader is not None and reader.unread.nbytes >= UNREAD_BYTES

    def heard(self, agent: Agent, ping: int) -> None:
        """Take the answer to a ping."""
        reader = self._readers.get(agent.id)
        if reader is None:
            return
        reader.unread.heard_of(ping)
        self._go_on(reader.key)

    def forget(self, agent_id: bytes) -> None:
        """Take note that an agent's link is gone: nothing is on its way, and it asks again."""
        reader = self._readers.pop(agent_id, None)
        if reader is not None:
            reader.unread.forget()
            reader.key.waiting.pop(agent_id, None)
            self._go_on(reader.key)

    def validate(self) -> None:
        """Check the counts.

        Raises:
            AssertionError: naming what does not add up.
        """
        for agent_id, reader in self._readers.items():
            assert agent_id in self._state.agents, "an agent that is gone has something to read"
            waits = agent_id in reader.key.waiting
            assert waits == bool(reader.wanted), "what an agent waits for is not sent"
        for key in self._keys.values():
            readers = [reader for reader in self._readers.values() if reader.key is key]
            assert key.unread == sum(reader.unread.nbytes for reader in readers), "unread bytes"

    def _reader(self, agent: Agent) -> _Reader:
        reader = self._readers.get(agent.id)
        if reader is None:
            key = self._keys.setdefault(agent.who.key, _Key())
            reader = self._readers[agent.id] = _Reader(key)
        return reader

    @staticmethod
    def _may_send(reader: _Reader) -> bool:
        return reader.unread.nbytes < UNREAD_BYTES and reader.key.unread < KEY_UNREAD_BYTES

    def _go_on(self, key: _Key) -> None:
        """Send what agents of a key wait for and have room for, a part to each in turn."""
        able = list(key.waiting)
        while able and key.unread < KEY_UNREAD_BYTES:
            able = [agent_id for agent_id in able if self._send_next(agent_id)]

    def _send_next(self, agent_id: bytes) -> bool:
        """Send the next part that an agent waits for; false if it has to read first, or has all."""
        reader = self._readers[agent_id]
        if not self._may_send(reader):
            return False
        message = reader.wanted.pop(next(iter(reader.wanted)))
        if not reader.wanted:
            del reader.key.waiting[agent_id]
        self._send(self._state.agents[agent_id], reader, message)
        return bool(reader.wanted)

    def _send(self, agent: Agent, reader: _Reader, message: Fetch) -> None:
        segment = self._segments.get(message.segment)
        if segment is None or agent.id not in segment.hosts:
            return
        end = min(message.at + min(message.size, _PART_BYTES), segment.size)
        data = segment.read(message.at, end) if message.at < end else b""
        part = FetchPart(message.segment, message.at, end == segment.size, [data] if data else [])
        self._state.send(agent.peer, part)
        self._count(agent, reader, _OVERHEAD + len(data))

    def _count(self, agent: Agent, reader: _Reader, size: int) -> None:
        ping = self._state.random.getrandbits(63) | 1
        if reader.unread.sent(size, ping):
            self._state.send(agent.peer, Ping(ping))
