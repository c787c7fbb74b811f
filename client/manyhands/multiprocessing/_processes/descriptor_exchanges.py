"""What this process has said to its host agent about descriptors, until the agent answers."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager

from manyhands_shared.protocol.messages.coordination import Opened

#: Longer waits than the system takes in one go.
LONGEST_SECONDS = threading.TIMEOUT_MAX / 4


class Exchange:
    """A deposit or a claim that waits for its answer. The caller sleeps on `lock`."""

    __slots__ = ("answer", "descriptors", "lock")

    def __init__(self) -> None:
        self.answer: Opened | None = None
        self.descriptors: list[int] = []
        self.lock = threading.Lock()
        self.lock.acquire()


class DescriptorExchanges:
    """Exchanges that are under way, by the names that their answers carry.

    Args:
        lock: the channel's. Its holder alone calls `begin` and `end`.
    """

    def __init__(self, lock: AbstractContextManager[bool]) -> None:
        self._lock = lock
        self._exchanges: dict[bytes, Exchange] = {}

    def begin(self, name: bytes) -> Exchange:
        """Expect an answer of this name."""
        exchange = self._exchanges[name] = Exchange()
        return exchange

    def wait(self, name: bytes, exchange: Exchange) -> Opened | None:
        """Wait for the answer and return it; None if the agent is gone.

        When an exception ends the wait, descriptors that have come are closed.
        """
        try:
            while not exchange.lock.acquire(timeout=LONGEST_SECONDS):
                pass
        except BaseException:
            with self._lock:
                late = self._exchanges.pop(name, None)
            for descriptor in exchange.descriptors if late is None else ():
                os.close(descriptor)
            raise
        return exchange.answer

    def answer(self, message: Opened, descriptors: list[int]) -> None:
        """Wake the caller that waits for this answer; without one, close the descriptors."""
        with self._lock:
            exchange = self._exchanges.pop(message.stream, None)
            if exchange is not None:
                exchange.answer, exchange.descriptors = message, descriptors
                exchange.lock.release()
                return
        for descriptor in descriptors:
            os.close(descriptor)

    def end(self) -> None:
        """Wake all callers: the agent that had their descriptors is gone."""
        for exchange in self._exchanges.values():
            exchange.lock.release()
        self._exchanges.clear()
