"""The broker put together: socket, scheduler, heartbeats, journal; from options to exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import zmq

from manyhands_broker import descriptor_reserve
from manyhands_broker.auth import Door, Keyring, load_key, secure
from manyhands_broker.core import Core, Limits, Unwatch, Watch
from manyhands_broker.heartbeats import table as lastseen
from manyhands_broker.heartbeats.failure_detector import Liveness
from manyhands_broker.heartbeats.pressure import Gauges
from manyhands_broker.heartbeats.receiver import HeartbeatMonitor, bind_udp
from manyhands_broker.journal import Journal, MemoryJournal
from manyhands_broker.loop import Loop
from manyhands_broker.ports.inprocess import Lodge
from manyhands_broker.ports.zmq_disconnects import Links, bind
from manyhands_shared.clock import monotonic
from manyhands_shared.config import BrokerConfig
from manyhands_shared.errors import ConfigError, ExitCode, ManyhandsError
from manyhands_shared.processes import hash_seed
from manyhands_shared.sd_notify import Notifier
from manyhands_shared.security import allow_list
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.security.private_files import private
from manyhands_shared.transport import address

log = logging.getLogger("manyhands.broker")

Ready = Callable[[dict[str, Any]], None]


def run(
    config: BrokerConfig,
    *,
    ready: Ready | None = None,
    parent_pid: int | None = None,
    lifeline: int | None = None,
    lodge: Lodge | None = None,
) -> int:
    """Serve until SIGTERM, SIGINT, or the end of the parent; returns an exit code.

    Args:
        config: Validated options.
        ready: Called once with ``address``, ``beat_port``, ``pid`` and, if it serves that, the URL
            ``http``, when the broker can be reached.
        parent_pid: Leave when this process is no longer the parent.
        lifeline: A descriptor whose end of file says to leave.
        lodge: Makes a node that lives in this process. It sees to signals, lifeline and parent then, and
            the broker leaves behind it.
    """
    try:
        # But for a node inside: its tasks make files as their user likes.
        with private() if lodge is None else contextlib.nullcontext():
            return _serve(config, ready, parent_pid, lifeline, lodge)
    except ManyhandsError as error:
        log.error("%s", error)  # noqa: TRY400 - one line for the operator, no traceback of ours
        return error.exit_code


def _serve(
    config: BrokerConfig,
    ready: Ready | None,
    parent_pid: int | None,
    lifeline: int | None,
    lodge: Lodge | None,
) -> int:
    manager = Notifier()
    key = load_key(config)
    limit = descriptor_reserve.set_aside()
    with contextlib.ExitStack() as stack:
        context: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
        router = stack.enter_context(context.socket(zmq.ROUTER))
        keyring = None
        if key is not None:
            keyring = Keyring(key, _allow_file(config))
            stack.callback(secure(context, router, key, keyring).stop)
        bound = _bind(router, address.parse_all(config.bind))
        endpoint = ",".join(bound)
        udp = [stack.enter_context(sock) for sock in _udp_sockets(bound, config.beat_port)]
        beat_port = udp[0].getsockname()[1]
        table = lastseen.new_table()
        heartbeats = _Heartbeats(udp, table, config)
        stack.callback(heartbeats.close)
        journal = _journal(config)
        stack.callback(journal.close)
        limits = _limits(config, beat_port, key)
        if lodge is not None:  # no node can come back from before its start
            limits = replace(limits, rejoin_wait=0.0)
        core = Core(
            limits,
            secrets.token_bytes(16),
            journal,
            monotonic(),
            epoch=time.time() - monotonic(),
            figures=lastseen.figures_of(table, monotonic),
        )
        links = Links(router, limit, 2 * config.window_bytes)
        stack.callback(links.close)
        loop = Loop(
            router,
            core,
            journal,
            monotonic,
            watch=heartbeats.watch,
            beats=heartbeats.check,
            door=Door(keyring),
            links=links,
        )
        stack.callback(loop.unix.close)
        for one in filter(address.is_unix, bound):
            loop.unix.listen(one)
        loop.restore(core.restore(journal.jobs(), keyring.known if keyring else {}))
        heartbeats.attach(loop)
        facts = {
            "address": endpoint,
            "beat_port": beat_port,
            "pid": os.getpid(),
        }
        if config.http:
            facts["http"] = _serve_http(config, core, loop, heartbeats, stack)
        if lodge is not None:
            lodging = loop.make_lodging()
            node = lodge(selector=lodging, connect=lodging.junction.connect)
            lodging.take_in(stack.enter_context(node))
        else:
            stack.enter_context(_stop_on_signals(loop))
        if lifeline is not None:
            loop.on_readable(lifeline, loop.stop)
        if parent_pid is not None:
            heartbeats.each_check(lambda: None if os.getppid() == parent_pid else loop.stop())
        heartbeats.each_check(lambda: manager.alive(monotonic()))
        log.info("listening on %s", endpoint)
        manager.tell("READY=1", f"STATUS=listening on {endpoint}")
        if ready is not None:
            ready(facts)
        loop.run()
        manager.tell("STOPPING=1")
        return ExitCode.OK if lodge is None else lodging.code or ExitCode.OK


def _serve_http(
    config: BrokerConfig,
    core: Core,
    loop: Loop,
    heartbeats: _Heartbeats,
    stack: contextlib.ExitStack,
) -> str:
    """Have a process answer HTTP as long as the broker serves; returns its URL."""
    from manyhands_broker.http.service import HttpService  # noqa: PLC0415 - only if wanted

    service = HttpService(config.http, config.http_hosts, core, lambda: loop.stuck, monotonic)
    stack.callback(service.close)
    heartbeats.each_check(service.check)
    log.info("metrics and health at %s", service.url)
    return service.url


class _Heartbeats:
    """The monitor process, restarted whenever it dies, and what is concluded from its table."""

    def __init__(self, udp: Sequence[socket.socket], table: Any, config: BrokerConfig) -> None:
        self._udp = udp
        self._table = table
        self._interval = config.beat_interval
        self._liveness = Liveness(table, config.phi_threshold, config.lease / 2)
        self._gauges = Gauges(table, config.beat_interval)
        self._checks: list[Callable[[], object]] = []
        self._loop: Loop | None = None
        self._start()

    def attach(self, loop: Loop) -> None:
        """Have the loop notice the monitor's death."""
        self._loop = loop
        loop.on_readable(self._monitor.sentinel, self._died)

    def each_check(self, call: Callable[[], object]) -> None:
        """Also call this with each look at the table."""
        self._checks.append(call)

    def watch(self, effect: Watch | Unwatch) -> None:
        """The scheduler's wishes."""
        if isinstance(effect, Watch):
            lastseen.watch(
                self._table, effect.row, effect.boot_id, effect.key, self._interval, monotonic()
            )
            self._liveness.watch(effect.row, effect.boot_id)
            self._gauges.watch(effect)
        else:
            lastseen.unwatch(self._table, effect.row)
            self._liveness.unwatch(effect.row)
            self._gauges.unwatch(effect.row)

    def check(self, now: float) -> list[Any]:
        """What has changed in anyone's standing."""
        for call in self._checks:
            call()
        return [*self._liveness.check(now), *self._gauges.check(now)]

    def close(self) -> None:
        """End the monitor."""
        self._monitor.kill()
        self._monitor.join()
        self._monitor.close()

    def _start(self) -> None:
        self._monitor = HeartbeatMonitor(self._udp, self._table)
        with descriptor_reserve.reserve():
            self._monitor.start()

    def _died(self) -> None:
        assert self._loop is not None
        self._loop.ignore(self._monitor.sentinel)
        self._monitor.join()
        log.warning(
            "the heartbeat monitor ended with %s; a new one starts, no node is judged by the gap",
            self._monitor.exitcode,
        )
        self._monitor.close()
        self._start()
        self.attach(self._loop)


def _journal(config: BrokerConfig) -> Journal:
    """On disk where a directory is given; else durable jobs live as long as the broker."""
    if not config.journal:
        return MemoryJournal()
    from manyhands_broker.journal.sqlite import SqliteJournal  # noqa: PLC0415 - only if wanted

    return SqliteJournal(Path(config.journal))


def _allow_file(config: BrokerConfig) -> Path:
    """Where the allow-list is: beside the cluster key, unless the options say otherwise."""
    return Path(config.allow_file) if config.allow_file else allow_list.place(Path(config.key_file))


def _limits(config: BrokerConfig, beat_port: int, key: ClusterKey | None) -> Limits:
    hash_seed.learn(hash_seed.choose(None if key is None else key.secret_for(b"hash seed")))
    return Limits(
        lease=config.lease,
        link_grace=min(2.0, config.lease / 2),
        session_grace=config.session_grace,
        beat_interval=config.beat_interval,
        beat_port=beat_port,
        hash_seed=hash_seed.known() or 0,
        window_tasks=config.window_tasks,
        window_bytes=config.window_bytes,
        stored_tasks=config.stored_tasks,
        function_bytes=config.function_bytes,
        key_jobs=config.key_jobs,
        key_kinds=config.key_kinds,
        key_sessions=config.key_sessions,
        key_nodes=config.key_nodes,
        result_bytes=config.result_bytes,
        crash_limit=config.crash_limit,
        keep_results=config.keep_results,
    )


def _bind(router: zmq.Socket[bytes], wanted: list[str]) -> list[str]:
    """Have ZeroMQ listen everywhere that is asked for; returns all addresses with their real ports."""
    bound = []
    for full in wanted:
        try:
            bound.append(full if address.is_unix(full) else bind(router, full))
        except zmq.ZMQError as error:
            raise ConfigError(
                f"cannot listen on {full}: {error}; choose another with --bind"
            ) from None
    return bound


def _udp_sockets(endpoints: list[str], port: int) -> list[socket.socket]:
    """The heartbeat sockets, one for each host that is listened on, all of one port number.

    The number is the first TCP port's if that is free and no other was asked for.
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


@contextlib.contextmanager
def _stop_on_signals(loop: Loop) -> Iterator[None]:
    """SIGTERM and SIGINT end the loop, also when they come while it sleeps."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    old_wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    old = {
        number: signal.signal(number, lambda *_: loop.stop())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    loop.on_readable(reader, lambda: bool(os.read(reader, 64)))
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_wakeup)
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
