"""The broker put together: ports, scheduler, heartbeats, journal; from options to exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyhands_broker import coordination_service, descriptor_reserve
from manyhands_broker.core import Core, Limits
from manyhands_broker.heartbeats.service import Heartbeats
from manyhands_broker.journal import Journal, MemoryJournal
from manyhands_broker.loop import Loop
from manyhands_broker.poller import Poller
from manyhands_broker.ports.base import Port
from manyhands_broker.ports.encoding import Codec
from manyhands_broker.ports.inprocess import InProcessPort, MakeNode
from manyhands_broker.ports.unix import UnixPort
from manyhands_shared.clock import monotonic
from manyhands_shared.config import BrokerConfig
from manyhands_shared.errors import ConfigError, ExitCode, ManyhandsError
from manyhands_shared.processes import file_size, hash_seed
from manyhands_shared.processes.boot import boot_id
from manyhands_shared.processes.termination_signals import wake_on_termination
from manyhands_shared.sd_notify import Notifier
from manyhands_shared.security.private_files import private
from manyhands_shared.transport import address

if TYPE_CHECKING:
    import zmq

    from manyhands_broker.auth import Gatekeeper

log = logging.getLogger("manyhands.broker")

Ready = Callable[[dict[str, Any]], None]


def run(
    config: BrokerConfig,
    *,
    ready: Ready | None = None,
    parent_pid: int | None = None,
    lifeline: int | None = None,
    make_node: MakeNode | None = None,
) -> int:
    """Serve until SIGTERM, SIGINT, or the end of the parent; returns an exit code.

    Args:
        config: Validated options.
        ready: Called once with ``address``, ``beat_port``, ``pid`` and, if it serves that, the URL
            ``http``, when the broker can be reached.
        parent_pid: Leave when this process is no longer the parent.
        lifeline: A descriptor whose end of file says to leave.
        make_node: Makes a node that lives in this process. It sees to signals, lifeline and parent
            then, and the broker leaves behind it.
    """
    try:
        file_size.check()
        # But for a node inside: its tasks make files as their user likes.
        with private() if make_node is None else contextlib.nullcontext():
            return _serve(config, ready, parent_pid, lifeline, make_node)
    except ManyhandsError as error:
        log.critical("%s", error)
        return error.exit_code


def _serve(
    config: BrokerConfig,
    ready: Ready | None,
    parent_pid: int | None,
    lifeline: int | None,
    make_node: MakeNode | None,
) -> int:
    manager = Notifier()
    gatekeeper = _gatekeeper(config)
    limit = descriptor_reserve.set_aside()
    with contextlib.ExitStack() as stack:
        bound, router = _bind(config, gatekeeper, stack)
        poller = Poller()
        heartbeats = Heartbeats(bound, config, monotonic, poller, later=make_node is not None)
        stack.callback(heartbeats.close)
        journal = _journal(config)
        stack.callback(journal.close)
        broker_id = os.urandom(16)
        core = Core(
            _limits(config, heartbeats.port, gatekeeper, embedded=make_node is not None),
            broker_id,
            journal,
            monotonic(),
            epoch=time.time() - monotonic(),
            figures=heartbeats.figures,
        )
        coordination = stack.enter_context(
            coordination_service.beside(core, config, broker_id, bound)
        )
        codec = Codec(core.breakdowns, core.counters)
        ports, inprocess = list[Port](), None
        if make_node is not None:
            inprocess = InProcessPort(poller, monotonic)
            ports.append(inprocess)
        unix = list(filter(address.is_unix, bound))
        if unix:
            ports.append(UnixPort(unix, poller, codec))
            stack.callback(ports[-1].close)
        if router is not None:
            from manyhands_broker.ports.zeromq import RouterPort  # noqa: PLC0415 - as in `_bind`

            bytes_arriving = 2 * config.window_bytes
            ports.append(
                RouterPort(router, poller, codec, monotonic, gatekeeper, limit, bytes_arriving)
            )
            stack.callback(ports[-1].close)
        loop = Loop(
            core,
            journal,
            monotonic,
            poller,
            ports,
            heartbeats=heartbeats.update,
            coordination=coordination,
            embedded=make_node is not None,
        )
        loop.restore(core.restore(journal.jobs(), gatekeeper.known if gatekeeper else {}))
        _tell_of_recovery(core)
        loop.each_check(heartbeats.check)
        if gatekeeper is not None:
            loop.each_check(gatekeeper.check)
        endpoint = ",".join(bound)
        facts = {"address": endpoint, "beat_port": heartbeats.port, "pid": os.getpid()}
        if config.http:
            facts["http"] = _serve_http(
                config, core, loop, coordination.figures, poller, stack, gatekeeper
            )
        if make_node is not None and inprocess is not None:
            node = make_node(selector=inprocess.selector, connect=inprocess.hub.connect)
            inprocess.take_in(stack.enter_context(node), loop.stop)
        else:
            stack.enter_context(_stop_on_signals(loop, poller))
        _stop_with_parent(loop, poller, lifeline, parent_pid)
        loop.each_check(manager.alive)
        log.info("listening on %s", endpoint)
        manager.tell("READY=1", f"STATUS=listening on {endpoint}")
        if ready is not None:
            ready(facts)
        loop.run()
        manager.tell("STOPPING=1")
        return ExitCode.OK if inprocess is None else inprocess.code or ExitCode.OK


def _bind(
    config: BrokerConfig, gatekeeper: Gatekeeper | None, stack: contextlib.ExitStack
) -> tuple[list[str], zmq.Socket[bytes] | None]:
    """Bind ZeroMQ's addresses; return all with their real ports, and the socket if there is one."""
    wanted = address.parse_all(config.bind)
    if all(map(address.is_unix, wanted)):
        return wanted, None
    from manyhands_broker.ports import zeromq  # noqa: PLC0415 - 20 ms with ZeroMQ

    router = stack.enter_context(zeromq.router_socket(gatekeeper))
    bound = [
        one if address.is_unix(one) else zeromq.bind(router, one, any_port=config.any_port)
        for one in wanted
    ]
    return bound, router


def _gatekeeper(config: BrokerConfig) -> Gatekeeper | None:
    """Read the keys of those who may connect; `None` on loopback without a cluster key.

    Raises:
        ConfigError: the address can be reached from elsewhere and there is no key; or the files of
            keys cannot be used.
    """
    if config.key_file:
        from manyhands_broker.auth import Gatekeeper  # noqa: PLC0415 - only if wanted

        return Gatekeeper.of(config)
    if not all(map(address.is_local, address.parse_all(config.bind))):
        raise ConfigError(
            f"{config.bind} can be reached from other machines, and what reaches a broker runs code on "
            "its nodes. Make a key with `manyhands keys new FILE`, and give it as --key-file"
        )
    return None


def _tell_of_recovery(core: Core) -> None:
    """Tell the operator what the journal has."""
    going_on, over = len(core.state.jobs), len(core.state.finished_jobs)
    if going_on or over:
        log.info("jobs in the journal: %s to go on with, %s over", f"{going_on:,}", f"{over:,}")


def _serve_http(
    config: BrokerConfig,
    core: Core,
    loop: Loop,
    coordination: Callable[[], dict[str, Any]],
    poller: Poller,
    stack: contextlib.ExitStack,
    gatekeeper: Gatekeeper | None,
) -> str:
    """Have a process answer HTTP as long as the broker serves; returns its URL."""
    from manyhands_broker.http.service import HttpService  # noqa: PLC0415 - only if wanted

    secret = None
    if gatekeeper is not None:
        # Of this run of the machine, in whose clock the dashboard's tokens count.
        run = boot_id() or secrets.token_hex()
        secret = gatekeeper.key.secret_for(f"dashboard {run}".encode())
    service = HttpService(
        config.http,
        config.http_hosts,
        core,
        lambda: loop.stuck,
        coordination,
        monotonic,
        poller=poller,
        secret=secret,
    )
    stack.callback(service.close)
    loop.each_check(lambda _: service.check())
    log.info("dashboard, metrics and health at %s", service.url)
    return service.url


def _journal(config: BrokerConfig) -> Journal:
    """On disk where a directory is given; else durable jobs live as long as the broker."""
    if not config.journal:
        return MemoryJournal()
    from manyhands_broker.journal.sqlite import SqliteJournal  # noqa: PLC0415 - only if wanted

    return SqliteJournal(Path(config.journal))


def _limits(
    config: BrokerConfig, beat_port: int, gatekeeper: Gatekeeper | None, *, embedded: bool
) -> Limits:
    secret = None if gatekeeper is None else gatekeeper.key.secret_for(b"hash seed")
    hash_seed.learn(hash_seed.choose(secret))
    limits = Limits(
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
    # An embedded node ends with its broker, so none can come back from before this start.
    return replace(limits, rejoin_wait=0.0) if embedded else limits


def _stop_with_parent(
    loop: Loop, poller: Poller, lifeline: int | None, parent_pid: int | None
) -> None:
    """End the loop with the process that started this one."""
    if lifeline is not None:
        poller.on_readable(lifeline, loop.stop)
    if parent_pid is not None:
        loop.each_check(lambda _: None if os.getppid() == parent_pid else loop.stop())


@contextlib.contextmanager
def _stop_on_signals(loop: Loop, poller: Poller) -> Iterator[None]:
    """SIGTERM and SIGINT end the loop, also when they come while it sleeps."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    poller.on_readable(reader, lambda: bool(os.read(reader, 64)))
    try:
        with wake_on_termination(writer, lambda *_: loop.stop()):
            yield
    finally:
        os.close(reader)
        os.close(writer)
