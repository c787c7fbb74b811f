"""What lends stored values to a pool child, with a test in the node's place."""

from __future__ import annotations

import os
import pickle
import secrets
import select
import socket
import threading
from collections import defaultdict

from manyhands_shared import shm
from manyhands_shared.payloads.refs import Place

_SIZE = 1 << 16
_BOUND = 60.0


class LendingNode:
    """A lender that serves in a thread of its own; whatever is asked for, it has, as text."""

    def __init__(self) -> None:
        self._lender = shm.Lender(f"test-{secrets.token_hex(8)}", self._lend)
        self.address = self._lender.address
        self.asked: list[str] = []
        self.returned: list[str] = []
        #: What had been returned by the time that a text was asked for last.
        self.returned_before: dict[str, list[str]] = {}
        self._back: dict[str, threading.Event] = defaultdict(threading.Event)
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @staticmethod
    def place(text: str) -> Place:
        """Return where a text lies."""
        return Place(text.encode().ljust(16), (_SIZE,), "host", "lender", b"owner")

    def is_back(self, text: str) -> bool:
        """Wait until it is."""
        return self._back[text].wait(_BOUND)

    def close(self) -> None:
        """Lend no more."""
        self._stop.send(b"x")
        self._thread.join()
        self._stop.close()
        self._stopped.close()
        self._lender.close()

    def _lend(self, key: bytes, _hint: bytes) -> None:
        text = key.rstrip().decode()
        fd = shm.new_segment(_SIZE)
        os.pwrite(fd, pickle.dumps(text), 0)

        def given_back() -> None:
            os.close(fd)
            self.returned.append(text)
            self._back[text].set()

        self.asked.append(text)
        self.returned_before[text] = [*self.returned]
        self._lender.offer(key, fd, given_back)
        self._lender.withdraw(key)

    def _serve(self) -> None:
        watched = [self._lender.fd, self._stopped.fileno()]
        while self._stopped.fileno() not in select.select(watched, [], [])[0]:
            self._lender.turn()
