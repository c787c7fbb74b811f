"""Results on their way to the broker, as messages that it takes."""

from __future__ import annotations

from manyhands_shared.protocol import wire
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.results.outbox import Ended, Outbox


def ended(index: int, status: Status, body: bytes = b"x") -> Ended:
    return Ended(("job", 1), [index], bytes([status]), [body], 0.01, len(body), 1, [])


def test_a_held_task_that_is_cancelled_at_once_is_in_two_groups() -> None:
    outbox = Outbox()
    outbox.add(ended(12, Status.HELD))
    outbox.add(ended(13, Status.HELD))
    outbox.add(ended(13, Status.CANCELLED))
    outbox.add(ended(14, Status.OK))
    [message] = outbox.next_messages()
    assert [group.indices for group in message.groups] == [[12, 13], [13, 14]]
    assert wire.decode(wire.encode(message)) == message
