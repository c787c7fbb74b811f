"""Heartbeats as the loop sees them: a receiver process that is kept alive, and what its table says."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from manyhands_broker.core import Event, ExpectHeartbeats, ForgetHeartbeats
from manyhands_broker.heartbeats import table as lastseen
from manyhands_broker.heartbeats.failure_detector import Liveness
from manyhands_broker.heartbeats.pressure import Gauges
from manyhands_broker.heartbeats.receiver import HeartbeatMonitor, bind_udp
from manyhands_broker.poller import Poller
from manyhands_shared.clock import Clock
from manyhands_shared.config import BrokerConfig
from manyhands_shared.errors import ConfigError
from manyhands_shared.transport import address

log = logging.getLogger("manyhands.broker")

#: At least this long between two starts of the monitor.
_RESTART_SECONDS = 5.0


class Heartbeats:
    """The monitor process, restarted whenever it dies, and what is concluded from its table.

    Args:
        endpoints: where the broker listens, and so listens for heartbeats.
        config: the broker's options.
        clock: the monotonic clock.
        poller: tells of the monitor's death.
        later: start the monitor only when a node was expected for a moment. The first task of an
            embedded cluster should not have to share the processor with its start. Heartbeats wait in
            the sockets until then.

    Raises:
        ConfigError: no port can be had for heartbeats.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        config: BrokerConfig,
        clock: Clock,
        poller: Poller,
        *,
        later: bool = False,
    ) -> None:
        self._udp = _bind_all(endpoints, config.beat_port)
        #: Where nodes send theirs.
        self.port: int = self._udp[0].getsockname()[1]
        table = self._table = lastseen.new_table()
        #: What a node last said of itself, by its row.
        self.figures: Callable[[int], dict[str, Any]] = lastseen.figures_of(table, clock)
        self._interval = config.beat_interval
        self._clock = clock
        self._poller = poller
        self._liveness = Liveness(table, config.phi_threshold, config.lease / 2)
        self._gauges = Gauges(table, config.beat_interval)
        self._monitor: HeartbeatMonitor | None = None
        self._expected = not later
        self._next_start = 0.0
        if not later:
            self._start()

    def update(self, effect: ExpectHeartbeats | ForgetHeartbeats) -> None:
        """The scheduler's wishes."""
        if isinstance(effect, ExpectHeartbeats):
            lastseen.expect(
                self._table, effect.row, effect.boot_id, effect.key, self._interval, self._clock()
            )
            self._liveness.expect(effect.row, effect.boot_id)
            self._gauges.expect(effect)
            self._expected = True
        else:
            lastseen.forget(self._table, effect.row)
            self._liveness.forget(effect.row)
            self._gauges.forget(effect.row)

    def check(self, now: float) -> Iterable[Event]:
        """What has changed in anyone's standing."""
        if self._monitor is None and self._expected and now >= self._next_start:
            self._start()
        return (*self._liveness.check(now), *self._gauges.check(now))

    def close(self) -> None:
        """End the monitor, and listen no more."""
        if self._monitor is not None:
            self._monitor.kill()
            self._monitor.join()
            self._monitor.close()
        for sock in self._udp:
            sock.close()

    def _start(self) -> None:
        self._next_start = self._clock() + _RESTART_SECONDS
        monitor = HeartbeatMonitor(self._udp, self._table)
        # Without it no node is suspected, and leases alone count.
        if monitor.try_start("the heartbeat monitor"):
            self._monitor = monitor
            self._poller.on_readable(monitor.sentinel, lambda: self._died(monitor))

    def _died(self, monitor: HeartbeatMonitor) -> None:
        self._poller.ignore(monitor.sentinel)
        monitor.join()
        log.warning(
            "the heartbeat monitor ended with %s; a new one starts, no node is judged by the gap",
            monitor.exitcode,
        )
        monitor.close()
        self._monitor = None
        if self._clock() >= self._next_start:
            self._start()


def _bind_all(endpoints: Sequence[str], port: int) -> list[socket.socket]:
    """Bind the heartbeat sockets, one for each host that is listened on, all of one port number.

    The number is the first TCP port's if that is free and no other was asked for.

    Raises:
        ConfigError: that cannot be done.
    """
    hosts = list(dict.fromkeys(address.host_of(one) or "127.0.0.1" for one in endpoints))
    tcp_port = endpoints[0].rpartition(":")[2]
    candidates = [port] if port else [int(tcp_port) if tcp_port.isdigit() else 0, 0]
    for candidate in candidates:
        found: list[socket.socket] = []
        try:
            for host in hosts:
                found.append(bind_udp(host, found[0].getsockname()[1] if found else candidate))
        except OSError as error:
            last = error
            for sock in found:
                sock.close()
        else:
            return found
    raise ConfigError(
        f"cannot listen for heartbeats on UDP {', '.join(hosts)} port {port}: {last}; "
        "choose another with --beat-port"
    )
