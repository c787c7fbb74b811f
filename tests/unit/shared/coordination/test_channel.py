"""The channel between a member and its agent: whole messages, each with its own descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from manyhands_shared.coordination import channel
from manyhands_shared.coordination.channel import MAX_DESCRIPTORS, MemberChannel
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol.messages import Message, Ping
from manyhands_shared.protocol.messages.coordination import Request

ID = bytes(16)


@pytest.fixture
def ends() -> Iterator[tuple[MemberChannel, MemberChannel]]:
    """Both ends of a channel."""
    one, other = (MemberChannel(sock) for sock in socket.socketpair())
    yield one, other
    one.close()
    other.close()


def receive(
    sender: MemberChannel, receiver: MemberChannel, count: int
) -> list[tuple[Message, list[int]]]:
    """Take that many messages."""
    found: list[tuple[Message, list[int]]] = []
    while len(found) < count and not receiver.ended:
        sender.flush()
        found += receiver.receive()
    return found


def request(size: int) -> Request:
    return Request(ID, 1, 1, ID, 14, True, [1, "x"], [b"y" * size])


def test_messages_come_whole_and_in_order(ends: tuple[MemberChannel, MemberChannel]) -> None:
    one, other = ends
    sizes = [0, 1, 10_000, 3_000_000, 7]
    for size in sizes:
        one.send(request(size))
    assert one.congested
    assert one.backlog > 2_000_000
    found = receive(one, other, len(sizes))
    assert [total(message.bodies) for message, _ in found if isinstance(message, Request)] == sizes
    assert (one.congested, one.backlog) == (False, 0)


@pytest.mark.parametrize("size", [3, 100_000], ids=["one frame", "two frames"])
def test_a_message_in_pieces_is_taken_when_it_is_whole(size: int) -> None:
    here, there = socket.socketpair()
    sender, receiver = MemberChannel(here), MemberChannel(there)
    copy_here, copy_there = socket.socketpair()
    copy = MemberChannel(copy_here)
    with copy_there:
        copy.send(request(size))
        copy.close()
        data = b"".join(iter(lambda: copy_there.recv(1 << 20), b""))
    assert size < len(data) < size + 120
    # Behind these bytes are payloads.
    for at in range(min(60, len(data) - 1)):
        here.sendall(data[at : at + 1])
        assert receiver.receive() == [], f"byte {at}"
    here.sendall(data[at + 1 :])
    ((message, _),) = receive(sender, receiver, 1)
    assert isinstance(message, Request)
    assert total(message.bodies) == size
    sender.close()
    receiver.close()


def test_descriptors_come_with_their_message(ends: tuple[MemberChannel, MemberChannel]) -> None:
    one, other = ends
    pipes = [os.pipe() for _ in range(4)]
    one.send(Ping(1), [pipes[0][0]])
    one.send(Ping(2))
    one.send(request(3_000_000))
    # These two wait behind it, and their sender closes its own meanwhile.
    one.send(Ping(3), [pipes[1][0], pipes[2][0]])
    one.send(Ping(4), [pipes[3][0]])
    for reader, _ in pipes:
        os.close(reader)
    found = receive(one, other, 5)
    assert [len(descriptors) for _, descriptors in found] == [1, 0, 0, 2, 1]
    readers = [fd for _, descriptors in found for fd in descriptors]
    for number, (reader, (_, writer)) in enumerate(zip(readers, pipes, strict=True)):
        assert not os.get_inheritable(reader)
        os.write(writer, bytes([number]))
        assert os.read(reader, 10) == bytes([number])
        os.close(reader)
        os.close(writer)


def test_the_end_comes_behind_what_was_sent(ends: tuple[MemberChannel, MemberChannel]) -> None:
    one, other = ends
    one.send(Ping(1))
    one.close()
    assert [message for message, _ in other.receive()] == [Ping(1)]
    assert (other.ended, other.receive(), other.ended) == (False, [], True)
    other.send(Ping(2))
    assert not other.congested


def test_what_is_no_message_ends_it(ends: tuple[MemberChannel, MemberChannel]) -> None:
    one, other = ends
    os.write(one.fileno(), b"\0" * 100)
    assert other.receive() == []
    assert other.ended


def test_too_many_descriptors_are_refused(ends: tuple[MemberChannel, MemberChannel]) -> None:
    one, _ = ends
    with pytest.raises(ProtocolError, match="65 descriptors"):
        one.send(Ping(1), [0] * (MAX_DESCRIPTORS + 1))


def test_nothing_is_sent_twice_after_an_interruption(
    ends: tuple[MemberChannel, MemberChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler may raise right behind a call that has sent something."""
    one, other = ends
    one.send(Ping(1))

    class Raises(list[int]):
        def extend(self, values: object) -> None:
            super().extend(values)  # type: ignore[arg-type]
            raise KeyboardInterrupt

    monkeypatch.setattr(channel._Outgoing, "__init__", _with(Raises, channel._Outgoing.__init__))
    with pytest.raises(KeyboardInterrupt):
        one.send(Ping(2))
    monkeypatch.undo()
    one.send(Ping(3))
    assert [message for message, _ in receive(one, other, 3)] == [Ping(1), Ping(2), Ping(3)]


def _with(kind: type, original: object) -> object:
    def init(self: object, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[operator]
        self.sent = kind()  # type: ignore[attr-defined]

    return init
