"""What clients ask and order: who may, and how much of the answers may wait to be read.

Nothing else delays answers: the broker sends each at once, and it waits with the transport until the
client reads it. So the broker sends a ping behind every 64 KiB of answers, with a number that no client
can guess. A client that answers the ping has read them. One that leaves too much unread gets refusals
instead, which are small.
"""

from __future__ import annotations

from typing import Any

import msgpack

from manyhands_broker.core.coordination import OF_PROGRAMS
from manyhands_broker.core.fault_isolation import describe
from manyhands_broker.core.model.identity import Identity
from manyhands_broker.core.model.quotas import SESSIONS_WORTH
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.unread import PING_BYTES
from manyhands_broker.core.peers.asking.orders import Orders
from manyhands_broker.core.peers.relays.inspections import Answer, Inspections
from manyhands_broker.core.queries import questions, views
from manyhands_broker.core.queries.answers import Reader, answer
from manyhands_broker.core.queries.explain import standstill
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.messages import DENIED, Ping, Query, Reply

#: What an answer takes beside its data.
_OVERHEAD = 100


class Requests:
    """Answers queries."""

    def __init__(self, state: SchedulerState, orders: Orders, inspections: Inspections) -> None:
        self._state = state
        self._orders = orders
        self._inspections = inspections

    def answer(self, session: Session, query: Query, now: float) -> None:
        """Answer a question, or carry out an order. What a node is asked is answered later."""
        if self._too_much_unread(session):
            self._state.counters["refused_answers"] += 1
            text = (
                f"{session.ledger.title} answers of "
                f"{session.ledger.answer_bytes / (1 << 20):.1f} MiB that were not read: "
                "read them, then ask again"
            )
            self._send(session, Reply(query.request, text, None))
        elif (reply := self._reply(session, query, now)) is not None:
            self._send(session, reply)

    def _send(self, session: Session, reply: Reply) -> None:
        """Send a reply, and count it as unread."""
        state = self._state
        state.send(session.peer, reply)
        size = _OVERHEAD + len(reply.error) + len(msgpack.packb(reply.data))
        number = state.random.getrandbits(63) | 1
        if session.answers.sent(size, number):
            state.send(session.peer, Ping(number))

    def refusal(self, who: Identity, account: str, what: str, arguments: dict[str, Any]) -> str:
        """Return why a query may not be put; empty if it may."""
        owner = self._state.owner(str(arguments.get("id", "")))
        refusal = who.why_not(what, account, owner)
        if refusal:
            self._state.counters["refused_orders"] += 1
        return refusal

    def order(self, who: Identity, what: str, arguments: dict[str, Any]) -> Any:
        """Carry out an order that comes by another way than a session.

        Raises:
            LookupError: it may not be given, or cannot be carried out; the text says why.
        """
        account = who.account("")
        wrong = self.refusal(who, account, what, arguments) or questions.refuse(what, arguments)
        if wrong:
            raise LookupError(wrong)
        return self._orders.by_name[what](arguments)

    def inspect(self, who: Identity, what: str, arguments: dict[str, Any], tell: Answer) -> None:
        """Ask a node what tasks do, for a page that `who` looks at; `tell` hears of the answer.

        Raises:
            LookupError: it may not be asked, or cannot be; the text says why.
        """
        wrong = self.refusal(who, who.account(""), what, arguments)
        wrong = wrong or questions.refuse(what, arguments)
        if wrong:
            raise LookupError(wrong)
        self._inspections.by_name[what](("page", who.key), tell, arguments)

    def _inspected(self, session: Session, reply: Reply) -> None:
        """Pass a node's answer on to the session that asked, if it is still there."""
        if self._state.sessions.get(session.token) is session:
            self._send(session, reply)

    def _too_much_unread(self, session: Session) -> bool:
        most, ledger = self._state.limits.answer_bytes, session.ledger
        if session.answers.nbytes >= most:
            return True
        # Whatever other sessions of the key leave unread, one that reads gets small answers.
        unread = session.answers.nbytes
        return ledger.answer_bytes >= SESSIONS_WORTH * most and unread > PING_BYTES

    def _reply(self, session: Session, query: Query, now: float) -> Reply | None:
        request, what, arguments = query.request, query.what, query.arguments
        refusal = self.refusal(session.who, session.account, what, arguments)
        if refusal:
            return Reply(request, refusal, DENIED)
        if wrong := questions.refuse(what, arguments):
            return Reply(request, wrong, None)
        try:
            if what in self._inspections.by_name:

                def tell(error: str, found: Any) -> None:
                    self._inspected(session, Reply(request, error, found))

                self._inspections.by_name[what](session, tell, arguments)
                return None
            data = self._data(session, what, arguments, now)
        except LookupError as error:
            return Reply(request, str(error.args[0]), None)
        except Exception as error:  # noqa: BLE001 - reported; the asker is told
            self._state.breakdowns.of(error, None, f"the query {what!r} could not be answered")
            return Reply(request, f"the broker could not answer: {describe(error)}", None)
        if what == "job":
            owner = str(data.get("account", session.account))
            mine = session.who.commands or owner == session.account
            data = {**data, "mine": mine, "trusted": Identity.vouches(session.account, owner)}
        return Reply(request, "", data)

    def _data(self, session: Session, what: str, arguments: dict[str, Any], now: float) -> Any:
        """Return the answer to a query that the session may put.

        Raises:
            LookupError: nothing is known by that name; the text says which.
        """
        if what == "dashboard":
            return self._dashboard(session)
        if what == "report":
            self._state.load_tests.append(
                (now, session.who.name or session.name, arguments["text"])
            )
            return {}
        if what == "standstill":
            return standstill(self._state, session)
        if what in OF_PROGRAMS:
            return self._ask(session, OF_PROGRAMS[what], arguments)
        order = self._orders.by_name.get(what)
        if order:
            return order(arguments)
        reader = Reader(session.account, session.who.commands)
        if what == "view":
            return views.table(self._state, arguments, reader)
        return answer(self._state, what, arguments, now, reader)

    def _dashboard(self, session: Session) -> dict[str, str]:
        """Return where the dashboard is, and a token that lets the asker in."""
        if self._state.dashboard is None:
            raise LookupError(
                "this broker serves no dashboard: start it with --http HOST:PORT, "
                "`manyhands broker --http 127.0.0.1:8080` for one"
            )
        return self._state.dashboard(session.who)

    def _ask(self, session: Session, what: str, arguments: dict[str, Any]) -> Any:
        """Ask the coordinator beside the scheduler."""
        if self._state.coordination is None:
            raise LookupError("this broker coordinates no programs of several processes")
        return self._state.coordination.ask(what, arguments, session.who, session.account)
