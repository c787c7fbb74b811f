"""The scheduler: the theory of its operation.

`Core` is a state machine. Something happens (`events`), it changes its state (`SchedulerState`), and
says what is to be done about it (`effects`). It owns no socket, clock, thread or file: `now` is an
argument, and everything random in it is a heartbeat key. So a simulator can drive it through any
history and check `validate()` after every step.

**Who is there.** A *peer* is a link: one socket's life. Clients open *sessions*, which outlive links;
nodes join under a boot id, which outlives links too. A peer that speaks without having said hello is
asked to (`Who`). That is also how a condemned node learns its fate.

**Tasks** live in jobs, in columns (`job`), and move along the table in `task_state`. Each time a task is
given to a node its attempt number rises by one. A result counts only if the task is ASSIGNED, to the
node on whose link the result came, in the attempt that the result names. This one comparison is what
makes results exactly-once. A node that was given up for dead and wakes fails it. So does a message that
is delivered twice, or a result that a cancellation has overtaken. Such results are counted and dropped.

**By which key.** A peer comes with an *identity* (`model.identity`). It is checked at the hello, which
nothing can go before, and stays with the session or node. Each order about a job of others is checked.

**A drain** is everything that can be read from the sockets at one time. Messages only change the
state. When the drain is over (`Drained`), `dispatcher` gives queued tasks to nodes and gathered results
to clients, in as few messages as possible. An idle system drains one message and so answers at once; a
busy one amortises everything over hundreds of tasks.

**How much.** A node gets work worth `Limits.horizon` seconds for each slot, by the measured duration of
the function's tasks (`fleet`). The rest of the queue stays here, where it can still go to any node that
is free. A node may have more than it can start soon while another has nothing to do. Then the broker
asks for half of that back (`Recall`). A node that has told of no result for a second has long tasks in
its slots. It is asked for all that waits there, however busy the others are. So are the nodes of a job
that is paused. A new job begins with a task for each slot. It gets very little more if an earlier job
has shown that the function is quick. What one drain gives out is bounded (`dispatcher`): a long queue
that meets a thousand nodes would otherwise hold up all peers for a second.

**Near their data.** Tasks that refer to stored values go to a node that has these, if waiting for it is
cheaper than taking them elsewhere (`placement`).

**Whose turn.** By priority, then to the key that has received least, then to that of its sessions, then
by turns among its jobs (`ready_queue`). What a key may have here is counted in its `Ledger`.

**Results as arguments.** A task may have results of others for inputs (`task_inputs`). It waits here
until these are there, runs near them, and ends with the first that failed.

**Stragglers.** A job may ask for second attempts. Then tasks at its end that take far longer than their
like go to a second node as well (`stragglers`). The first answer counts (`twins`).

**Death.** Heartbeats that stay away make a node suspect, and a suspect's link is probed. Only a link
that is closed and stays so, or a lease that runs out, condemns it; then all it had is queued again.
Tasks whose child died are blamed one by one, for the node knows which one ran. When a whole node died,
its tasks are blamed if each had a slot of its own. Otherwise they become *suspects*: they run again
without others waiting behind them, so that a second death tells. A task blamed `crash_limit` times ends
as CRASHED, with its story, and the fleet lives on.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from manyhands_broker.core.coordination import Coordination
from manyhands_broker.core.dispatch.dispatcher import Dispatcher
from manyhands_broker.core.dispatch.placement import Placer
from manyhands_broker.core.effects import Effect
from manyhands_broker.core.events import (
    Calmed,
    Drained,
    Event,
    KeysChanged,
    LinkClosed,
    Pressed,
    Received,
    Stalled,
    Suspected,
    Unwritable,
)
from manyhands_broker.core.fault_isolation import Breakdowns
from manyhands_broker.core.limits import Limits
from manyhands_broker.core.model.identity import Identity
from manyhands_broker.core.peers.cancellation import Cancellation
from manyhands_broker.core.peers.clients import Clients
from manyhands_broker.core.peers.durable import Durable
from manyhands_broker.core.peers.nodes import Nodes
from manyhands_broker.core.peers.orphans import Orphans
from manyhands_broker.core.peers.relays.printing import Printing
from manyhands_broker.core.peers.relays.value_relay import ValueRelay
from manyhands_broker.core.peers.results import Outcomes
from manyhands_broker.core.peers.standings import Standings
from manyhands_broker.core.peers.task_inputs import TaskInputs
from manyhands_broker.core.queries import views
from manyhands_broker.core.queries.answers import Reader
from manyhands_broker.core.queries.stats import Stats, cluster_figures, stats
from manyhands_broker.core.records import StoredJob
from manyhands_broker.core.state.delayed_acks import DelayedAcks
from manyhands_broker.core.state.scheduler_state import Figures, SchedulerState
from manyhands_broker.core.store import Store
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.protocol.messages import Cancel, ClientHello, Message, Who, WorkerHello

#: Jobs that are told in one drain that one before them is over: half a millisecond for ten of them.
SETTLED_JOBS = 256
#: Tasks that are told in one drain that an input has come, or has failed: 5 ms.
SETTLED_TASKS = 2_048


class Core:
    """Feed it events in the order in which they happen; do what it returns, in order."""

    def __init__(
        self,
        limits: Limits,
        broker_id: bytes,
        store: Store,
        now: float,
        *,
        epoch: float = 0.0,
        figures: Figures = lambda _row: {},
        rng: random.Random | None = None,
    ) -> None:
        """Make a scheduler without peers.

        Args:
            limits: The numbers it decides by.
            broker_id: 16 bytes, new with each start.
            store: The reading side of the journal.
            now: The time of its start.
            epoch: Unix time minus the `now` of events; for people to read.
            figures: Row of the last-seen table → figures of that node's last heartbeat.
            rng: Draws the jitter of back-offs, and numbers that clients must not guess.
        """
        self.state = SchedulerState(
            limits, broker_id, epoch, figures, store, rng or random.SystemRandom(), now
        )
        transitions = Transitions(self.state)
        self._orphans = Orphans()
        self._durable = Durable(transitions)
        delayed_acks = DelayedAcks(self.state)
        value_relay = self._value_relay = ValueRelay(self.state)
        task_inputs = self._task_inputs = TaskInputs(transitions, value_relay)
        outcomes = Outcomes(transitions, self._orphans, task_inputs)
        self._cancellation = Cancellation(transitions)
        printing = Printing(self.state, outcomes)
        standings = Standings(self.state)
        self._clients = Clients(
            transitions,
            self._durable,
            self._orphans,
            delayed_acks,
            outcomes,
            value_relay,
            standings,
            printing,
        )
        self._nodes = Nodes(
            transitions,
            self._orphans,
            delayed_acks,
            outcomes,
            value_relay,
            printing,
            self._clients.inspections,
        )
        placer = Placer(self.state, value_relay)
        self._dispatcher = Dispatcher(transitions, self._durable, placer, standings, task_inputs)
        self.state.timers.await_peer(now + limits.session_grace, self._give_up_orphans)

    def restore(
        self, jobs: Iterable[StoredJob], known: Mapping[str, Identity] = MappingProxyType({})
    ) -> list[Effect]:
        """Bring back the jobs of earlier lives. Call it once, before the first event.

        `known`: the keys that are let in, by public key.
        """
        self.state.ledgers.know(known)
        for job in jobs:
            self._durable.restore(job)
        self._durable.start()
        for restored in self.state.jobs.values():
            self._clients.submissions.limit(restored)
        self._settle_rest()
        return self.collect()

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Let `event` happen at `now` (seconds, never falling)."""
        self.state.now = now
        match event:
            case Received(peer, message, who):
                self._received(peer, message, who, now)
            case Drained():
                self.state.timers.run(now)
                self._settle()
                self._dispatcher.run(now)
                self._settle_rest()
                if self.state.histories.due(now):
                    self.state.histories.sample(now, cluster_figures(self.state))
            case Unwritable():
                self._dispatcher.read()
            case LinkClosed(peer):
                self._link_closed(peer, now)
            case Suspected(row, boot_id, phi):
                self._nodes.suspected(row, boot_id, phi)
            case Calmed(row, boot_id):
                self._nodes.calmed(row, boot_id)
            case Pressed(row, boot_id, level):
                self._nodes.pressed(row, boot_id, level)
            case Stalled(seconds):
                self.state.stalled(seconds)
                self._nodes.stalled(seconds)
            case KeysChanged(known):
                self.state.ledgers.know(known)
                self._clients.keys_changed(known)
                self._nodes.keys_changed(known)
        return self.collect()

    def collect(self) -> list[Effect]:
        """Return the effects that no event has returned: of one that raised, of a send that failed."""
        effects, self.state.effects = self.state.effects, []
        return effects

    def attach(self, coordination: Coordination) -> None:
        """Have a coordinator answer queries about programs of several processes."""
        self.state.coordination = coordination

    def view(self, what: str, arguments: Mapping[str, Any], who: Identity) -> dict[str, Any]:
        """Return what the dashboard shows to `who`.

        Raises:
            LookupError: nothing is known by that name; the text says which.
        """
        reader = Reader(who.account(""), who.commands)
        return views.VIEWS[what](self.state, arguments, reader)

    def order(self, what: str, arguments: dict[str, Any], who: Identity) -> Any:
        """Carry out an order that `who` gives from the dashboard. Effects come with the next event.

        Raises:
            LookupError: it may not be given, or cannot be carried out; the text says why.
        """
        return self._clients.requests.order(who, what, arguments)

    def inspect(
        self, what: str, arguments: dict[str, Any], who: Identity, tell: Callable[[str, Any], None]
    ) -> None:
        """Ask a node what its tasks do, for a page that `who` looks at. Effects come as of orders.

        Args:
            tell: hears later why there is no answer, or what it is.

        Raises:
            LookupError: it may not be asked, or cannot be; the text says why.
        """
        self._clients.requests.inspect(who, what, arguments, tell)

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        return stats(self.state)

    @property
    def counters(self) -> Counter[str]:
        """What was counted since the start. The loop counts here too."""
        return self.state.counters

    @property
    def breakdowns(self) -> Breakdowns:
        """Where the loop reports what has raised."""
        return self.state.breakdowns

    @property
    def wake_at(self) -> float | None:
        """When to send `Drained` at the latest, even if nothing else happens."""
        return self.state.timers.next

    def occupies(self, processors: int) -> bool:
        """Whether there are as many slots as `processors`, and each has work."""
        fleet = self.state.fleet
        return fleet.slots >= processors and not fleet.idle

    def validate(self) -> None:
        """Check every invariant, slowly.

        Raises:
            AssertionError: naming what does not add up.
        """
        from manyhands_broker.core.validate import validate  # noqa: PLC0415 - 2 ms, of tests alone

        validate(self.state)

    def _settle(self) -> bool:
        """End what has broken, and see to what comes after other jobs and tasks, a bounded number.

        Return whether there was something.
        """
        state, left, inputs = self.state, SETTLED_JOBS, self._task_inputs
        if not (state.over or state.breakdowns.jobs or inputs.pending):
            return False
        tasks_left = SETTLED_TASKS
        while left > 0 and (state.over or state.breakdowns.jobs):
            self._cancellation.broken()
            left -= self._durable.dependencies.tell(left)
        while tasks_left > 0 and inputs.pending:
            tasks_left -= max(1, inputs.tell(tasks_left))
        return True

    def _settle_rest(self) -> None:
        """Settle what the dispatcher leaves.

        Results that come of it go out with the next drain, and so does what is left.
        """
        if self._settle():
            state = self.state
            state.timers.at(math.nextafter(state.now, math.inf), lambda _now: None)

    def _give_up_orphans(self, _now: float) -> None:
        for node, span in self._orphans.give_up():
            self.state.send(node.peer, Cancel([span]))
        self._value_relay.give_up()

    def _received(self, peer: bytes, message: Message, who: Identity, now: float) -> None:
        state = self.state
        node = state.fleet.by_peer.get(peer)
        session = state.session_of.get(peer)
        if isinstance(message, WorkerHello) and session is None:
            self._nodes.hello(peer, message, who, now)
        elif isinstance(message, ClientHello) and node is None:
            self._clients.hello(peer, message, who, now)
        elif node is not None:
            self._nodes.received(node, message, now)
        elif session is not None:
            self._clients.received(session, message, now)
        else:
            state.counters["strangers"] += 1
            state.send(peer, Who(state.broker_id))

    def _link_closed(self, peer: bytes, now: float) -> None:
        node = self.state.fleet.by_peer.get(peer)
        session = self.state.session_of.get(peer)
        if node is not None:
            self._nodes.link_closed(node, now)
        elif session is not None:
            self._clients.lost(session, now)
