"""The node process: one loop around the core, the pool, the link and the heartbeat."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

from manyhands_shared import shm
from manyhands_shared.config import WorkerConfig
from manyhands_shared.errors import ExitCode, ManyhandsError
from manyhands_shared.processes import descriptors, file_size, hash_seed
from manyhands_shared.processes.termination_signals import wake_on_termination
from manyhands_shared.protocol.messages import Renew
from manyhands_shared.sd_notify import Notifier
from manyhands_shared.transport import address
from manyhands_shared.transport.failover import Route
from manyhands_shared.transport.link import Link
from manyhands_worker import broker_link
from manyhands_worker.agent.start import AVAILABLE, AgentSupervisor
from manyhands_worker.child import allowed_functions
from manyhands_worker.core import effects, events
from manyhands_worker.core.leased_link import Phase
from manyhands_worker.core.node_core import Identity, NodeCore
from manyhands_worker.heartbeat.process import Target
from manyhands_worker.heartbeat.supervisor import HeartbeatSupervisor
from manyhands_worker.host import resources
from manyhands_worker.host.child_cgroups import ChildCgroup
from manyhands_worker.host.describe import default_slots, describe_host
from manyhands_worker.host.escaped_processes import EscapedProcesses
from manyhands_worker.host.process_start import Environment, start_fork_server
from manyhands_worker.link_registration import LinkRegistration
from manyhands_worker.pool.leftovers import Leftovers
from manyhands_worker.pool.pool import NodePool
from manyhands_worker.values.input_store import InputStore

if TYPE_CHECKING:
    from manyhands_worker.agent.config import AgentConfig
    from manyhands_worker.environments.store import EnvironmentStore

log = logging.getLogger("manyhands.worker")

#: The loop turns at least this often, as proof that it lives.
_TURN_SECONDS = 1.0


def run(
    config: WorkerConfig,
    *,
    parent_pid: int | None = None,
    lifeline: int | None = None,
    ready: Callable[[dict[str, Any]], None] | None = None,
) -> int:
    """Run a node until it is drained, refused or told to leave. Returns the exit code.

    Call it in the main thread: SIGTERM and SIGINT drain the node; a second one ends it at once.

    Args:
        config: the node's options.
        parent_pid: leave at once when this process is not the parent any more.
        lifeline: a descriptor; leave at once when its other end is closed.
        ready: called with facts about the node when the broker has taken it in.
    """
    manager = Notifier()  # before anything is started that would inherit the manager's address
    try:
        start_fork_server(config.key_file, agent=config.agent_at_start)
        if config.key_file:
            from manyhands_worker.host.key_hiding import guard  # noqa: PLC0415 - for nodes with a key alone

            guard(config.key_file)
        with Node(config, manager, parent_pid, lifeline) as node:
            return node.run(ready)
    except ManyhandsError as error:
        log.critical("%s", error)
        return error.exit_code
    except OSError as error:
        log.critical("cannot start: %s", error)
        return ExitCode.JOB_FAILED


class Node:
    """Everything of a running node, wired together. Its context is its life.

    Args:
        config: the node's options.
        manager: the service manager.
        parent_pid: leave at once when this process is not the parent any more.
        lifeline: a descriptor; leave at once when its other end is closed.
        selector: where descriptors are registered, each with a `data` to be called with what is ready;
            its own, with which `run` works, if there is none.
        connect: makes links to the broker in another way than by the configured address.

    Raises:
        ManyhandsError: an option that cannot be used.
        OSError: the system gives no process, descriptor or memory.
    """

    def __init__(
        self,
        config: WorkerConfig,
        manager: Notifier,
        parent_pid: int | None,
        lifeline: int | None,
        *,
        selector: selectors.BaseSelector | None = None,
        connect: Callable[[], Link] | None = None,
    ) -> None:
        file_size.check()
        self._manager = manager
        self._told = ""
        boot_id = os.urandom(16)
        self._route = Route(config.broker)
        slots = config.slots or default_slots()
        allowed = allowed_functions.parse(config.safe)
        offered, gpus = resources.offered(config.resources)
        info = describe_host(
            slots,
            offered,
            safe=allowed is not None,
            reserve=config.memory_reserve,
            environments=config.environments,
        )
        name = config.name or f"{socket.gethostname()}-{boot_id[:2].hex()}"
        self._config, self._name, self._boot_id = config, name, boot_id
        self._key_file = config.key_file
        self._parent = parent_pid
        self._lifeline = lifeline
        self._code: int | None = None
        #: Whether processes can be started: their hash seed comes with the first welcome.
        self._can_bear = hash_seed.known() is not None
        self._leaves = 0
        #: It leaves now, whatever its members do.
        self._hasty = False
        self._selector = selector or selectors.DefaultSelector()
        self._connector = broker_link.open_connector(self._route, config.key_file, connect)
        self._silence = broker_link.SilenceNotice(self._route)
        self._link_registration = LinkRegistration(self._selector, self._connector)
        self._input_store = self._make_input_store()
        lender = None if self._input_store is None else self._input_store.lender
        self._server = None
        if lender is not None and config.key_file and config.direct:
            from manyhands_worker.values.result_server import ResultServer  # noqa: PLC0415 - 20 ms with ZeroMQ

            self._server = ResultServer(config.data_address, config.data_port)
        self._agents = self._make_agents(safe=allowed is not None)
        if self._agents is not None:
            info["agent"] = self._agents.address
            info["processes"] = config.processes
        if gpus.told:
            log.log(logging.INFO if gpus.offered else logging.WARNING, "%s", gpus.told)
        descriptors.raise_limit()
        leftovers = Leftovers(ChildCgroup.make() or EscapedProcesses())
        self._environments: dict[bytes, Environment] = {}
        self._environment_store: EnvironmentStore | None = None
        self._pool = NodePool(
            slots,
            config.slab_bytes,
            self._selector,
            lender=lender,
            server=self._server,
            allowed=allowed,
            leftovers=leftovers,
            agent="" if self._agents is None else self._agents.address,
            gpus=gpus,
            discard_output=config.discard_output,
            node=name,
            environments=self._environments,
        )
        self._heartbeat = HeartbeatSupervisor(
            boot_id, self._selector, beats=config.beats, cgroups=leftovers.cgroups
        )
        self._core = NodeCore(
            Identity(
                name,
                boot_id,
                slots,
                config.window,
                config.drain_timeout,
                info,
                config.idle_timeout,
                config.time_limit,
                allowed is not None,
                gpus.offered,
                config.environments,
            )
        )

    def _make_input_store(self) -> InputStore | None:
        """What lends large values on this host; None where that cannot be."""
        if not shm.host_id():
            return None
        try:
            # Not the boot id, which heartbeats carry unencrypted.
            name = secrets.token_hex(16)
            return InputStore(
                name, self._selector, lambda event: self._tell(event, time.monotonic())
            )
        except OSError as error:
            log.warning("large values go through the broker: %s", error)
            return None

    def _make_agents(self, *, safe: bool) -> AgentSupervisor | None:
        """What starts the host agent; None where members of programs cannot be."""
        if safe or not self._config.processes or not AVAILABLE or not shm.host_id():
            return None
        try:
            agents = AgentSupervisor(self._selector, self._configure_agent)
        except OSError as error:
            log.warning("processes of programs cannot run here: %s", error)
            return None
        if self._config.agent_at_start:
            agents.want()
        return agents

    def _configure_agent(self, agent: bytes, address: str) -> AgentConfig:
        """Return what an agent is started with."""
        from manyhands_worker.agent.config import AgentConfig  # noqa: PLC0415 - for nodes with programs
        from manyhands_worker.agent.core.identity import AgentIdentity  # noqa: PLC0415 - as said above

        identity = AgentIdentity(
            agent,
            shm.host_id(),
            self._name,
            self._boot_id,
            address,
            self._config.processes,
            self._config.drain_timeout,
        )
        return AgentConfig(identity, self._config.broker, self._connector.key)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._signals())
            stack.callback(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, tell: Callable[[dict[str, Any]], None] | None = None) -> int:
        """Turn until it is over; returns the exit code. `tell` is called with facts when it is ready."""
        while self.code is None:
            if tell is not None and self._core.phase is Phase.READY:
                tell({"name": self._name, "pid": os.getpid(), "broker": self._route.current})
                tell = None
            timeout = max(0.0, self.deadline - time.monotonic())
            for key, ready in self._selector.select(timeout):
                key.data(ready)
            self.turn(time.monotonic())
        return self.code

    @property
    def code(self) -> int | None:
        """Its exit code once it has left."""
        if self._code is None:
            return None
        members_run = self._agents is not None and self._agents.running and not self._hasty
        return None if members_run and self._code == ExitCode.OK else self._code

    @property
    def deadline(self) -> float:
        """When it is to turn, if no descriptor tells before. To be asked for behind each turn."""
        now = time.monotonic()
        if self._connector.pending():
            return now
        times = [now + _TURN_SECONDS, self._core.deadline(now)]
        if (link_due := self._connector.deadline) is not None:
            times.append(link_due)
        if self._can_bear:
            times += (self._pool.deadline, self._heartbeat.deadline)
            if self._agents is not None:
                times.append(self._agents.deadline)
        if self._environment_store is not None:
            times.append(self._environment_store.deadline)
        return min(times)

    def turn(self, now: float) -> None:
        """Deal with what descriptors have brought, and with what is due."""
        # The link first: it is made while the pool waits for its first children.
        for event in broker_link.turn(self._connector, now):
            self._tell(event, now)
        if self._can_bear:
            # The agent first: if it is wanted, a program waits for it.
            if self._agents is not None:
                self._turn_agents(self._agents, now)
            self._pool.turn(now)
            for event in self._pool.take_events():
                self._tell(event, now)
        if self._environment_store is not None:
            for made in self._environment_store.turn(now):
                self._tell(made, now)
        if self._parent is not None and os.getppid() != self._parent:
            self._leave("its parent process is gone", now=True)
        self._tell(events.Tick(), now)
        # What tasks and results need not wait for.
        if self._can_bear:
            for event in self._heartbeat.turn(now, self._groups):
                self._tell(event, now)
        self._silence.turn(now, is_served=self._core.phase is Phase.READY)
        self._heartbeat.status.turn(self._core.running)
        if self._manager.wanted:
            self._tell_manager(now)
        self._link_registration.turn()

    @property
    def _groups(self) -> list[int]:
        """Process groups that must not outlive the node."""
        store = self._environment_store
        return self._pool.groups if store is None else self._pool.groups + store.groups

    def _turn_agents(self, agents: AgentSupervisor, now: float) -> None:
        if now >= agents.deadline:
            for event in agents.turn(now):
                self._tell(event, now)
        if self._core.draining:
            agents.drain()

    def _close(self) -> None:
        if self._agents is not None:
            self._agents.close()
        self._pool.close()
        if self._environment_store is not None:
            self._environment_store.close()
        if self._server is not None:
            self._server.close()
        if self._input_store is not None:
            self._input_store.close()
        self._heartbeat.close()
        self._connector.close(flush=True)
        self._selector.close()

    def _tell(self, event: events.Event, now: float) -> None:
        for effect in self._core.handle(event, now):
            self._do(effect, now)

    def _do(self, effect: effects.Effect, now: float) -> None:
        match effect:
            case effects.Start():
                self._pool.start(effect.slot, effect.batch)
            case effects.Send():
                self._connector.send(effect.message)
                if self._input_store is not None and type(effect.message) is Renew:
                    self._input_store.lender.compare()
            case effects.Free():
                for memory in effect.blocks:
                    memory.free()
            case effects.Log():
                log.log(effect.level, "%s", effect.text, extra={"node": self._name})
            case effects.Supply():
                if self._input_store is not None:
                    self._input_store.supply(effect.key, effect.bodies)
            case (
                effects.Revoke()
                | effects.Kill()
                | effects.Retire()
                | effects.Open()
                | effects.Close()
                | effects.Inspect()
            ):
                self._order(effect, now)
            case effects.Reconnect():
                self._connector.reconnect(now)
            case effects.Beat():
                self._beat(effect)
            case effects.MakeEnvironment():
                self._make_environment(effect, now)
            case effects.StartAgent() | effects.PassOn():
                self._order_agent(effect)
            case effects.Stop():
                self._stop(effect)

    def _make_environment(self, effect: effects.MakeEnvironment, now: float) -> None:
        if self._environment_store is None:
            from manyhands_worker.environments.store import EnvironmentStore  # noqa: PLC0415 - for such jobs alone

            config = self._config
            self._environment_store = EnvironmentStore(
                self._selector, self._environments, config.environments_dir, config.key_file
            )
        self._environment_store.make(effect, now)

    def _order_agent(self, effect: effects.StartAgent | effects.PassOn) -> None:
        if self._agents is None:
            return
        if type(effect) is effects.PassOn:
            self._agents.pass_on(effect.address)
        else:
            self._agents.want()

    def _order(
        self,
        effect: effects.Revoke
        | effects.Kill
        | effects.Retire
        | effects.Open
        | effects.Close
        | effects.Inspect,
        now: float,
    ) -> None:
        match effect:
            case effects.Inspect():
                self._pool.inspect(effect.order, now)
            case effects.Revoke():
                self._pool.revoke(effect.slot, effect.limit, now)
            case effects.Kill():
                self._pool.kill(effect.slot)
            case effects.Retire():
                self._pool.retire(effect.slot, now)
            case effects.Open():
                self._pool.open_slot(effect.slot)
            case effects.Close():
                self._pool.close_slot(effect.slot, now)

    def _beat(self, effect: effects.Beat) -> None:
        if not self._can_bear:
            hash_seed.learn(effect.hash_seed)
            self._can_bear = True
            start_fork_server(self._key_file, agent=self._config.agent_at_start)
        host = address.host_of(self._route.current) or "127.0.0.1"
        if self._server is not None:
            self._server.start(host)
        self._heartbeat.aim(Target(host, effect.port, effect.row, effect.interval, effect.key))

    def _tell_manager(self, now: float) -> None:
        """Tell the service manager what it does not know yet. Ready is a node that was welcomed."""
        if self._core.draining:
            lines = ["STOPPING=1", "STATUS=draining"]
        elif self._core.phase is Phase.READY:
            lines = ["READY=1", f"STATUS=works for {self._route.current}"]
        else:
            lines = [f"STATUS=waits for the broker at {self._route.current}"]
        if lines[-1] != self._told:
            self._told = lines[-1]
            self._manager.tell(*lines)
        self._manager.alive(now)

    def _stop(self, effect: effects.Stop) -> None:
        self._code = effect.code
        if effect.text:
            log.critical("%s", effect.text)

    # Being told to leave

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals, and the end of the lifeline, into events of the loop."""
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self._selector.register(near, selectors.EVENT_READ, lambda _: self._signalled(near))
        if self._lifeline is not None:
            self._selector.register(
                self._lifeline, selectors.EVENT_READ, lambda _: self._read_lifeline()
            )
        try:
            with wake_on_termination(far.fileno(), _left_to_the_loop):
                yield
        finally:
            near.close()
            far.close()

    def _signalled(self, near: socket.socket) -> None:
        try:
            numbers = near.recv(64)
        except BlockingIOError:
            return
        for number in numbers:
            self._leaves += 1
            name = signal.Signals(number).name
            self._leave(f"got {name}", now=self._leaves > 1)

    def _read_lifeline(self) -> None:
        if self._lifeline is None:
            return
        # The process at the other end never writes: it can be read when that end is closed.
        if not os.read(self._lifeline, 64):
            self._selector.unregister(self._lifeline)
            self._leave("its lifeline is cut", now=True)

    def _leave(self, reason: str, *, now: bool) -> None:
        self._hasty = self._hasty or now
        self._tell(events.Leave(reason, now=now), time.monotonic())


def _left_to_the_loop(*_: Any) -> None:
    """The wake-up descriptor brings the signal's number to the loop."""
