"""A client that waits and hears nothing: why none of its tasks runs, on standard error.

The I/O thread looks when no result has come for a while. It asks the broker, or says that the broker is
away. What it says it says once, and again when the reason changes, after ever longer times.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from manyhands_shared.processes.thread_start import start
from manyhands_shared.text import amount, printable
from manyhands_shared.transport.reachability import silence

#: Seconds without a result before the first look; the longest time between two looks.
SILENCE_SECONDS, LONGEST_SECONDS = 5.0, 60.0
#: How long one more attempt to reach the broker may take, to say why there is none.
_ATTEMPT_SECONDS = 1.0
_NUMBERS = re.compile(r"[\d.,]*\d")


class SilenceNotice:
    """Looks after a session's silence. For the I/O thread.

    Args:
        address: returns the broker's address as it is now.
        ask: puts a question to the broker.
        tell: shows a line to the user, from any thread.
    """

    def __init__(
        self,
        address: Callable[[], str],
        ask: Callable[[Future[Any]], None],
        tell: Callable[[str], None],
    ) -> None:
        self._address = address
        self._ask = ask
        self._tell = tell
        #: When to look; None while no task is unended.
        self.deadline: float | None = None
        self._interval = SILENCE_SECONDS
        self._delivered = 0
        self._is_asking = False
        self._told = ""

    def turn(self, now: float, *, unended: int, delivered: int, is_open: bool) -> None:
        """Look whether results come, and if they do not, find out why.

        Args:
            now: the time.
            unended: tasks that have not ended.
            delivered: how often results have come so far.
            is_open: whether the broker has taken the session in, over its present link.
        """
        if not unended:
            self.deadline = None
            return
        if self.deadline is None or delivered != self._delivered:
            self._delivered, self._told = delivered, ""
            self._interval = SILENCE_SECONDS
            self.deadline = now + self._interval
        elif now >= self.deadline:
            self.deadline = now + self._interval
            self._interval = min(2 * self._interval, LONGEST_SECONDS)
            if self._is_asking:
                return
            self._is_asking = True
            if is_open:
                answer: Future[Any] = Future()
                answer.add_done_callback(lambda answer: self._answered(answer, unended))
                self._ask(answer)
            else:
                # Looking up a name may take as long as the system likes.
                thread = threading.Thread(
                    target=self._look_for_broker, name="manyhands-silence", daemon=True
                )
                self._is_asking = start(thread)

    def _answered(self, answer: Future[Any], unended: int) -> None:
        self._is_asking = False
        if answer.exception() is None and isinstance(reasons := answer.result(), list):
            self._say(
                "; ".join(map(str, reasons)),
                f"nothing runs of {amount(unended, 'unfinished task')}: ",
            )

    def _look_for_broker(self) -> None:
        try:
            where = silence(self._address(), _ATTEMPT_SECONDS)
            self._say(f"no broker answers at {where}. This goes on trying", "")
        finally:
            self._is_asking = False

    def _say(self, reason: str, before: str) -> None:
        if reason and (kind := _NUMBERS.sub("", reason)) != self._told:
            self._told = kind
            self._tell(f"manyhands: {before}{printable(reason)}\n")
