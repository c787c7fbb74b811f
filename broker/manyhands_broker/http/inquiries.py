"""Questions of the HTTP process to the broker's loop: one at a time, and an answer that never waits.

A question is one datagram on a socket pair. The answer lies in shared memory, and a datagram says how
long it is. So the loop copies the answer and goes on, however slow the HTTP process is. That one asks
again only when it has the answer, or when it has waited too long for it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import RawArray
from typing import Any

import msgpack

from manyhands_shared.protocol import bounds

#: Bytes of the longest answer, and of the longest question.
ANSWER_BYTES = 4 << 20
QUESTION_BYTES = 8 << 10
#: Questions that are answered in one turn of the loop; seconds that one may wait for its answer.
_AT_ONCE = 4
_PATIENCE = 5.0
_ARGUMENTS = bounds.Map("arguments", 2, 32, 4_096)

#: Kind of question, what it is about, its arguments, and the key of who asks (see `InquiryHandler`).
Answer = Callable[[str, str, dict[str, Any], str], Any]


class Inquiries:
    """Made in the broker's process, and inherited by the HTTP process, whose own it is to `ask`."""

    def __init__(self) -> None:
        self.broker_end, self._asker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.broker_end.setblocking(False)
        self._answer = RawArray("B", ANSWER_BYTES)
        self._number = 0

    # The broker's side

    def serve(self, answer: Answer) -> None:
        """Answer what was asked.

        Args:
            answer: finds the data; a `LookupError` says why there is none.
        """
        for _ in range(_AT_ONCE):
            try:
                question = self.broker_end.recv(QUESTION_BYTES)
            except BlockingIOError:
                return
            number, *asked = msgpack.unpackb(question)
            packed = _answered(answer, *asked)
            if len(packed) > ANSWER_BYTES:
                packed = msgpack.packb([False, "there is too much of it to be shown"])
            memoryview(self._answer).cast("B")[: len(packed)] = packed
            try:
                self.broker_end.send(msgpack.packb([number, len(packed)]))
            except BlockingIOError:
                # It has not read for a hundred answers: it is stuck, and asks anew later.
                return

    # The HTTP process's side

    def ask(self, kind: str, what: str, arguments: dict[str, Any], key: str) -> Any:
        """Ask, and wait for the answer.

        Raises:
            LookupError: there is none; the text says why.
            TimeoutError: the broker's loop does not answer.
        """
        self._number += 1
        try:
            question = msgpack.packb([self._number, kind, what, arguments, key])
        except (TypeError, ValueError, OverflowError):
            raise LookupError("these arguments cannot be") from None
        if len(question) > QUESTION_BYTES:
            # The broker would read a part of it.
            raise LookupError("this question is too long")
        self._asker_end.settimeout(_PATIENCE)
        self._asker_end.send(question)
        give_up = time.monotonic() + _PATIENCE
        while True:
            number, length = msgpack.unpackb(self._asker_end.recv(64))
            if number == self._number:
                break
            if time.monotonic() > give_up:
                raise TimeoutError("the broker's loop does not answer")
        good, data = msgpack.unpackb(bytes(memoryview(self._answer).cast("B")[:length]))
        if not good:
            raise LookupError(data)
        return data

    def close(self) -> None:
        """Close both ends."""
        self.broker_end.close()
        self._asker_end.close()


def _answered(answer: Answer, kind: str, what: str, arguments: dict[str, Any], key: str) -> bytes:
    """Return an answer as it travels, or why there is none."""
    try:
        if not bounds.check(_ARGUMENTS)(arguments):
            raise LookupError("these arguments cannot be")
        packed: bytes = msgpack.packb([True, answer(kind, what, arguments, key)])
    except LookupError as error:
        packed = msgpack.packb([False, str(error.args[0])], unicode_errors="replace")
    except (TypeError, ValueError, OverflowError) as error:
        packed = msgpack.packb([False, f"the answer cannot be sent: {error}"])
    return packed
