"""Telling a service manager how it goes: systemd's notification protocol (`sd_notify`).

Where there is no manager, or it did not ask, nothing happens.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """Speaks to the manager that started this process, if one did.

    What it was started with is taken out of the environment, so that no child speaks in its name.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        given = os.environ if environ is None else environ
        self._place = given.pop("NOTIFY_SOCKET", "")
        period = given.pop("WATCHDOG_USEC", "")
        watched = given.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        #: Seconds between two signs of life: three chances within the manager's timeout.
        self._interval = int(period) / 3e6 if period.isdigit() and watched else 0.0
        self._next = 0.0

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return bool(self._place)

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``, ``STOPPING=1`` or ``STATUS=…``, in one datagram."""
        if not self._place:
            return
        place = f"\0{self._place[1:]}" if self._place.startswith("@") else self._place
        # A manager that does not listen is no reason to fail.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), place)

    def alive(self, now: float) -> None:
        """A sign of life, if one is due at `now` (seconds of the monotonic clock)."""
        if self._interval and now >= self._next:
            self._next = now + self._interval
            self.tell("WATCHDOG=1")
