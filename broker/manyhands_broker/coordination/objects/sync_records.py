"""Objects, waiting requests, items and answers, as the write-ahead log has them."""

from __future__ import annotations

from typing import Any

from manyhands_broker.coordination.model import Member
from manyhands_shared.coordination.kinds import Kind, Operation
from manyhands_shared.coordination.rules.creation import blank
from manyhands_shared.coordination.rules.model import Op, SyncObject, Waiter
from manyhands_shared.coordination.rules.queue import QueueRules
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages.coordination import Response

_NUMBER_BYTES = 8


class SharedObject:
    """An object of a program.

    Attributes:
        key: its 16 bytes.
        program: its program's id.
        made: the place in a file where it was made, for people.
        rules: its state.
    """

    __slots__ = ("key", "made", "program", "rules")

    def __init__(self, key: bytes, program: bytes, made: str, rules: SyncObject) -> None:
        self.key = key
        self.program = program
        self.made = made
        self.rules = rules


def numbered(key: bytes, number: int) -> bytes:
    """Return the key of a record of one request, or of one item."""
    return key + number.to_bytes(_NUMBER_BYTES, "big")


def object_record(shared: SharedObject) -> list[Any]:
    """Return an object without those that wait and without items."""
    return [shared.program, int(shared.rules.kind), shared.made, shared.rules.state()]


def waiter_record(key: bytes, waiter: Waiter, now: float) -> list[Any]:
    """Return a request that waits; `now` tells a reader whose clock began anew how much is left."""
    detail = list(waiter.detail)
    times = [now, waiter.since, waiter.deadline]
    return [key, waiter.order, int(waiter.operation), times, detail]


def item_record(rules: QueueRules, number: int) -> list[Any] | None:
    """Return an item, or `None` if it is gone."""
    state = rules.item_state(number)
    return None if state is None else [state, _flat(rules.items[number].body)]


def requests_record(member: Member, marked: dict[int, bytes]) -> list[Any]:
    """Return a member's last number and its answers; `marked` has the queues of items in these."""
    answers = [
        [one.number, one.outcome, one.epoch, one.arguments, marked.get(one.number, b"")]
        for one in member.answers.values()
    ]
    return [member.last_number, answers]


class Restoration:
    """Gathers records, in any order, and makes objects of them."""

    def __init__(self) -> None:
        self._objects: dict[bytes, list[Any]] = {}
        self._items: dict[bytes, dict[int, list[Any]]] = {}
        self._waiters: dict[bytes, dict[Op, list[Any]]] = {}
        #: Of each member, its last number and its answers.
        self.requests: dict[bytes, list[Any]] = {}

    def add_object(self, key: bytes, payload: Any) -> None:
        """Take an object's record."""
        self._objects[key] = payload

    def add_item(self, key: bytes, payload: Any) -> None:
        """Take an item's record."""
        queue, number = key[:-_NUMBER_BYTES], int.from_bytes(key[-_NUMBER_BYTES:], "big")
        self._items.setdefault(queue, {})[number] = payload

    def add_waiter(self, key: bytes, payload: Any) -> None:
        """Take the record of a request that waits."""
        op = key[:-_NUMBER_BYTES], int.from_bytes(key[-_NUMBER_BYTES:], "big")
        self._waiters.setdefault(payload[0], {})[op] = payload

    def objects(self, now: float) -> list[SharedObject]:
        """Return all objects, with those that wait and with their items."""
        return [self._restored(key, payload, now) for key, payload in self._objects.items()]

    def _restored(self, key: bytes, payload: Any, now: float) -> SharedObject:
        program, kind, made, state = payload
        rules = blank(Kind(kind))
        if isinstance(rules, QueueRules):
            for number, (item, body) in self._items.get(key, {}).items():
                rules.restore_item(number, item, _body(body))
        waiting = {op: _waiter(one, now) for op, one in self._waiters.get(key, {}).items()}
        rules.restore(state, waiting)
        return SharedObject(key, program, made, rules)


def restored_answer(member: Member, row: Any, bodies: list[Payload]) -> Response:
    """Return an answer that a member may ask for again."""
    number, outcome, epoch, arguments = row[:4]
    return Response(member.id, number, outcome, epoch, arguments, bodies)


def _waiter(payload: Any, now: float) -> Waiter:
    _, order, operation, (written, since, deadline), detail = payload
    # A clock that began anew with its machine is behind what was written.
    behind = max(written - now, 0.0)
    ends = None if deadline is None else deadline - behind
    return Waiter(order, Operation(operation), since - behind, ends, tuple(detail))


def _flat(body: Payload) -> bytes | list[bytes]:
    """Return bytes for one pickle, a list for one with its buffers."""
    return [bytes(part) for part in body] if isinstance(body, tuple) else bytes(body)


def _body(flat: bytes | list[bytes]) -> Payload:
    return tuple(flat) if isinstance(flat, list) else flat
