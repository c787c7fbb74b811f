"""Results of other tasks that a task has for inputs: loaded where its arguments refer to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from manyhands_shared.payloads import pickled, refs
from manyhands_shared.payloads.payload import Buffer, Payload
from manyhands_shared.protocol import given_results
from manyhands_shared.protocol.given_results import GivenResult
from manyhands_shared.protocol.held_result import Ticket
from manyhands_worker.child.inputs.input_loader import ValueGone


class InputGone(BaseException):
    """A held result is gone: no error of the task, which is to be given the result of another run.

    Args:
        key: of the segment.
    """

    def __init__(self, key: bytes) -> None:
        super().__init__("a result that the task has for an input is gone")
        self.key = key


class GivenInputs:
    """What the task has that is about to begin."""

    def __init__(self) -> None:
        #: What was gone since `take`, even if code of the arguments' own has hidden it.
        self.gone: InputGone | None = None
        self._load: Callable[[Payload], Any] = pickled.loads
        self._owner = b""
        self._results: list[GivenResult] = []
        refs.set_given(self._value)

    def take(self, body: tuple[Buffer, ...], load: Callable[[Payload], Any]) -> Payload:
        """Take the results out of a task's body; return its own arguments, to be loaded next.

        `load` loads a result. Raises `ProtocolError` if the body makes no sense.
        """
        self._load = load
        self._owner, self._results, arguments = given_results.split(body)
        return arguments

    def drop(self) -> None:
        """Keep nothing of a task whose arguments are loaded."""
        self._results = []

    def _value(self, number: int) -> Any:
        result = self._results[number]
        if not result.is_held:
            return self._load(result.payload)
        ticket = Ticket.decode(result.payload)
        place = refs.Place(
            ticket.key, tuple(ticket.lengths), ticket.host, ticket.lender, self._owner
        )
        try:
            parts = refs.private_buffers(place)
        except ValueGone:
            self.gone = InputGone(ticket.key)
            raise self.gone from None
        return self._load(tuple(parts) if len(parts) > 1 else bytes(parts[0]))
