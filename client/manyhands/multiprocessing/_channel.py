"""This process's channel to its host agent: requests that wait for a response, and ones that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from manyhands_shared.payloads.payload import Payload


class Response(Protocol):
    """The broker's answer to a request; the wire message has more fields."""

    outcome: int
    epoch: int
    arguments: Any
    bodies: list[Payload]


class Channel:
    """Requests of any thread of this process, over one socket to the agent."""

    def request(
        self,
        operation: int,
        key: bytes,
        arguments: Any,
        bodies: Sequence[Payload] = (),
        *,
        timeout: float | None = None,
        carries: bytes = b"",
        keeper_decides: bool = False,
    ) -> Response | None:
        """Ask the keeper of an object for an operation, and wait for the response.

        At the end of `timeout`, and when an exception ends the wait, the request is withdrawn: what
        the keeper grants meanwhile is undone.

        Args:
            operation: an `Operation`.
            key: the object's 16 bytes.
            arguments: as the operation has them.
            bodies: payloads that come with it.
            timeout: seconds to wait; None is for ever.
            carries: keys of the primitives inside `bodies`, 16 bytes each.
            keeper_decides: the keeper ends the wait at `timeout`. The caller waits 5 s longer for its
                word, as others must agree with it.

        Returns:
            The response; None if the time was over first, and the keeper does not decide.

        Raises:
            SharedStateLost: the keeper has not spoken 5 s after `timeout`, or the program is over.
        """
        raise NotImplementedError

    def tell(
        self,
        operation: int,
        key: bytes,
        arguments: Any,
        bodies: Sequence[Payload] = (),
        *,
        carries: bytes = b"",
    ) -> None:
        """Have an operation done that is not answered. It takes effect before all that is sent later."""
        raise NotImplementedError

    def acquisition(self) -> int:
        """Return a new ticket: it names one acquisition by this thread of this process for ever."""
        raise NotImplementedError
