"""The broker's side of HTTP: writes its figures to the snapshot, and keeps the server process alive."""

from __future__ import annotations

import ipaddress
import logging
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manyhands_broker.core import Core
from manyhands_broker.core.fault_isolation import describe
from manyhands_broker.core.model.identity import Identity
from manyhands_broker.http.admission.access import ENTER, Access
from manyhands_broker.http.inquiries import Inquiries
from manyhands_broker.http.inquiry_handler import InquiryHandler
from manyhands_broker.http.metrics import COUNTED
from manyhands_broker.http.process import HttpServer, listen
from manyhands_broker.http.snapshot import Snapshot
from manyhands_broker.poller import Poller
from manyhands_shared import __version__
from manyhands_shared.clock import Clock

log = logging.getLogger("manyhands.broker")

#: The least time between two pins, and between two starts of the process.
_PIN_SECONDS, _RESTART_SECONDS = 1.0, 5.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class HttpService:
    """Listens from its making on; `check` has to be called about twice a second.

    Args:
        address: ``HOST:PORT``.
        hosts: Further names of this server, separated by commas.
        core: Whose figures are shown.
        stuck: What else keeps the broker from taking work; empty if nothing does.
        coordination: The figures of programs of several processes; empty if there are none.
        clock: The monotonic clock.
        poller: Where questions of the dashboard are waited for.
        secret: What the dashboard's tokens are signed with; `None` where the broker has no keys.

    Raises:
        ConfigError: the address cannot be had.
    """

    def __init__(
        self,
        address: str,
        hosts: str,
        core: Core,
        stuck: Callable[[], list[str]],
        coordination: Callable[[], dict[str, Any]],
        clock: Clock,
        *,
        poller: Poller,
        secret: bytes | None,
    ) -> None:
        self._socket, self.url = listen(address)
        host = self._socket.getsockname()[0]
        is_loopback = ipaddress.ip_address(host).is_loopback
        self._access = (
            Access(is_loopback, False) if secret is None else Access(is_loopback, True, secret)
        )
        self._handler = InquiryHandler(core, keyed=self._access.keyed)
        self._inquiries = Inquiries()
        poller.on_readable(
            self._inquiries.broker_end.fileno(), lambda: self._inquiries.serve(self._answer)
        )
        core.state.dashboard = self._way_in
        self._hosts = [name for name in hosts.split(",") if name.strip()]
        self._core = core
        self._stuck = stuck
        self._coordination = coordination
        self._clock = clock
        self._snapshot = Snapshot()
        self._next_pin = 0.0
        self._started = time.time()
        self._process: HttpServer | None = None
        self._start()

    def check(self) -> None:
        """Pin what is due; start the process again if it has died."""
        now = self._clock()
        if now >= self._next_pin:
            self._next_pin = now + _PIN_SECONDS
            self._pin(self._figures(), now)
        if now >= self._next_start and (self._process is None or not self._process.is_alive()):
            self._reap()
            self._start()

    def close(self) -> None:
        """End the process and stop listening."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        self._socket.close()
        self._inquiries.close()

    def _answer(self, kind: str, what: str, arguments: dict[str, Any], key: str) -> Any:
        """Answer a page; what breaks then ends nothing else.

        Raises:
            LookupError: there is no answer; the text says why.
        """
        try:
            return self._handler.answer(kind, what, arguments, key)
        except LookupError:
            raise
        except Exception as error:  # noqa: BLE001 - reported; the asker is told
            doing = f"the page's question {what!r} could not be answered"
            self._core.breakdowns.of(error, None, doing)
            raise LookupError(f"the broker could not answer: {describe(error)}") from None

    def _way_in(self, who: Identity) -> dict[str, str]:
        """Return where the dashboard is, and a token that lets `who` in."""
        return {"url": self.url, "token": self._access.make(ENTER, who.key, self._clock())}

    def _start(self) -> None:
        self._next_start = self._clock() + _RESTART_SECONDS
        process = HttpServer(
            self._socket, self._snapshot, self._inquiries, self._access, self._hosts
        )
        if process.try_start("the HTTP process"):
            self._process = process

    def _reap(self) -> None:
        if self._process is not None:
            log.warning("the HTTP process ended with %s; a new one starts", self._process.exitcode)
            self._process.close()
            self._process = None

    def _pin(self, figures: dict[str, Any], now: float) -> None:
        try:
            self._snapshot.pin(figures, now)
        except ValueError:
            # Kinds of tasks are called what their clients call them; all else is short.
            self._snapshot.pin({**figures, "wanted": []}, now)

    def _figures(self) -> dict[str, Any]:
        stats = self._core.stats()
        return {
            **stats.cluster,
            "problems": [*self._stuck(), *stats.problems],
            "budgets": stats.budgets,
            "counters": {name: stats.counters.get(name, 0) for name in COUNTED},
            "coordination": self._coordination(),
            "version": __version__,
            "python": platform.python_version(),
            "started": self._started,
            "cpu_seconds": time.process_time(),
            "resident": _resident(),
        }


def _resident() -> int:
    """Resident bytes of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
