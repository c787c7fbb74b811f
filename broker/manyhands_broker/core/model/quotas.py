"""What the clients and nodes of one key have at the broker, and what they may have.

Every budget is per key: a client that opens a hundred sessions has no more than one with a single
session. All clients and nodes without a key of their own count as one. Such are all peers of a broker
without keys, the broker's own user over a Unix socket, and holders of the cluster key.

A ledger is counted up and down with each event, which costs a few additions. `validate` counts all of
it anew. The broker refuses a request that would go beyond a budget, in a sentence: which budget it is,
how large, and what to do. `state.counters` counts the refusals.

**Windows.** The window of a key is shared among its sessions. Each is told its share, and keeps what
goes beyond at its client; shares are halved when the number of sessions doubles. What comes all the
same is taken up to twice the key's window. A session within its share is never refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from manyhands_broker.core.limits import Limits
from manyhands_shared.text import amount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manyhands_broker.core.model.identity import Identity
    from manyhands_broker.core.model.requirements import Kind
    from manyhands_broker.core.model.session import Session

#: Times the sessions of one key that all peers without a key of their own may have together.
MANY = 16
#: What the results and answers of all sessions of a key may take, in those of one session.
SESSIONS_WORTH = 4
#: Events of a key's nodes at once, and for each second.
EVENT_BURST, EVENT_RATE = 1_000, 10.0
#: What a job takes beside its tasks and its function, in bytes, with options of no size.
JOB_BYTES = 2_048
#: The budgets, each counted as `refused_` and its name.
BUDGETS = (
    "answers",
    "arriving",
    "bytes",
    "events",
    "functions",
    "jobs",
    "kinds",
    "nodes",
    "sessions",
    "stored",
    "tasks",
)


class Ledger:
    """What one key has; `key` is empty for all peers without one of their own."""

    __slots__ = (
        "answer_bytes",
        "bytes",
        "clock",
        "event_at",
        "event_room",
        "function_bytes",
        "jobs",
        "key",
        "kinds",
        "limits",
        "muted",
        "name",
        "nodes",
        "parked",
        "printed_bytes",
        "sessions",
        "shares",
        "stored",
        "tasks",
        "top",
        "unacked",
        "vtime",
    )

    def __init__(self, key: str = "", limits: Limits | None = None) -> None:
        self.key = key
        self.limits = limits or Limits()
        #: What the key is called, for people; and the highest priority that its jobs have among all.
        self.name = ""
        self.top = 0 if key else self.limits.top_priority
        self.sessions = 0
        self.nodes = 0
        #: Jobs that are not over; and how many of them there are of each kind.
        self.jobs = 0
        self.kinds: Counter[Kind] = Counter()
        #: Tasks that have not ended: of sessions, and of the journal. Bytes of their payloads here.
        self.tasks = 0
        self.stored = 0
        self.bytes = 0
        #: Bytes of the functions that its jobs use, with their names, and of what its jobs ask for.
        self.function_bytes = 0
        #: Bytes of results, of answers and of printed lines that were sent and not taken yet.
        self.unacked = 0
        self.answer_bytes = 0
        self.printed_bytes = 0
        #: Into how many shares the windows are divided: a power of two.
        self.shares = 1
        #: Work received so far, in seconds: the fair share gives to the key with the least. And the
        #: virtual time of its sessions, among each other.
        self.vtime = 0.0
        self.clock = 0.0
        #: Events that its nodes may send at once, as of a time; whether some were dropped since.
        self.event_room = float(EVENT_BURST)
        self.event_at = 0.0
        self.muted = False
        #: Sessions that the ready queue passes over.
        self.parked: set[Session] = set()

    @property
    def empty(self) -> bool:
        """Whether nothing of the key is here."""
        return not (self.sessions or self.nodes or self.jobs or self.function_bytes)

    @property
    def title(self) -> str:
        """Whose ledger it is, at the beginning of a sentence."""
        if not self.key:
            return "all clients and nodes without a key of their own together have"
        return f"the key {self.name or self.key[:16]} has"

    # Sessions and nodes

    def refuse_session(self) -> str:
        """Return why no further session may be opened; empty if one may."""
        most = self.limits.key_sessions * (1 if self.key else MANY)
        if self.sessions < most:
            return ""
        return self._text(
            f"{amount(self.sessions, 'session')} open, and may have {most}",
            "close some",
            "--key-sessions",
        )

    def refuse_node(self) -> str:
        """Return why no further node may come in; empty if one may."""
        most = self.limits.key_nodes
        if self.nodes < most:
            return ""
        return self._text(
            f"{amount(self.nodes, 'node')}, and may have {most}", "stop some", "--key-nodes"
        )

    def take_event(self, now: float) -> bool:
        """Count an event of its nodes; return whether it may be told."""
        grown = self.event_room + (now - self.event_at) * EVENT_RATE
        self.event_room, self.event_at = min(EVENT_BURST, grown), now
        if self.event_room >= EVENT_BURST / 2:
            self.muted = False
        if self.event_room < 1:
            return False
        self.event_room -= 1
        return True

    def opened(self) -> bool:
        """Count a session; return whether the shares have become smaller."""
        self.sessions += 1
        if self.sessions <= self.shares:
            return False
        self.shares *= 2
        return True

    def closed(self) -> None:
        """Count a session less. Shares grow again when there are half as many as they are for."""
        self.sessions -= 1
        while self.shares > 1 and self.sessions * 4 <= self.shares:
            self.shares //= 2

    # Work

    @property
    def task_share(self) -> int:
        """Unfinished tasks that one session may have without being refused."""
        return max(1, self.limits.window_tasks // self.shares)

    @property
    def byte_share(self) -> int:
        """Bytes of them, likewise."""
        return max(1, self.limits.window_bytes // self.shares)

    def refuse_job(self, kind: Kind, cost: int) -> tuple[str, str]:
        """Return the budget that a new job would break and the refusal; both empty if it may come.

        Args:
            kind: What its tasks need of a node.
            cost: Bytes of what it asks for, and of its function if that is here and new to the key.
        """
        limits = self.limits
        if self.jobs >= limits.key_jobs:
            jobs = amount(self.jobs, "job that is not over", "jobs that are not over")
            text = f"{jobs}, and may have {limits.key_jobs}"
            return "jobs", self._text(text, "wait until some have ended", "--key-jobs")
        # What needs only a Python is what most jobs need: others must not keep it out.
        most = limits.key_kinds * (2 if kind.plain else 1)
        if kind not in self.kinds and len(self.kinds) >= most:
            text = (
                f"jobs of {len(self.kinds)} kinds, by the resources and labels that they ask for, "
                f"and may have {most}"
            )
            return "kinds", self._text(text, "ask for fewer different ones", "--key-kinds")
        return ("functions", self.refuse_function(cost)) if cost else ("", "")

    def refuse_function(self, cost: int) -> str:
        """Return why `cost` more bytes of functions and options may not come; empty if they may."""
        most = self.limits.function_bytes
        if self.function_bytes + cost <= most:
            return ""
        text = (
            f"functions and options of unfinished jobs of {_mib(self.function_bytes)} at the broker, "
            f"this brings {_mib(cost)} more, and {_mib(most)} are allowed"
        )
        return self._text(text, "wait until jobs have ended", "--function-bytes")

    def refuse_tasks(
        self, session: Session, count: int, size: int, *, durable: bool
    ) -> tuple[str, str]:
        """Return the budget that new tasks would break and the refusal; both empty if they may come.

        Durable ones have left their client, whose window does not hold them back.
        """
        limits = self.limits
        tasks = self.tasks + count
        if durable:
            if self.stored + count > limits.stored_tasks:
                text = f"{amount(self.stored, 'unfinished task')} of durable jobs"
                text += f", and may have {limits.stored_tasks}"
                return "stored", self._text(text, "wait until tasks have ended", "--stored-tasks")
        elif tasks > 2 * limits.window_tasks and session.unfinished + count > self.task_share:
            text = (
                f"{amount(self.tasks, 'unfinished task')} at the broker, and may have "
                f"{limits.window_tasks}"
            )
            return "tasks", self._text(text, "wait until tasks have ended", "--window-tasks")
        alone = not self.bytes and count == 1
        if self.bytes + size > 2 * limits.window_bytes and not alone:
            if not durable and session.unfinished_bytes + size <= self.byte_share:
                return "", ""
            text = (
                f"unfinished tasks of {_mib(self.bytes)} at the broker, this brings {_mib(size)} "
                f"more, and {_mib(limits.window_bytes)} are allowed"
            )
            return "bytes", self._text(text, "wait until tasks have ended", "--window-bytes")
        return "", ""

    def add_job(self, kind: Kind) -> None:
        """Count a job that is not over."""
        self.jobs += 1
        self.kinds[kind] += 1

    def end_job(self, kind: Kind) -> None:
        """Count a job less."""
        self.jobs -= 1
        self.kinds[kind] -= 1
        if not self.kinds[kind]:
            del self.kinds[kind]

    # What clients are sent

    @property
    def full(self) -> bool:
        """Whether its sessions leave so much untaken that each may leave only its share."""
        return self.unacked >= SESSIONS_WORTH * self.limits.result_bytes

    @property
    def result_share(self) -> int:
        """Bytes of results that one session may leave untaken while the key is `full`."""
        return max(1, self.limits.result_bytes * SESSIONS_WORTH // (2 * max(1, self.sessions)))

    def used(self) -> dict[str, float]:
        """Return which part of each budget is used, 1 being all of it."""
        limits = self.limits
        return {
            "sessions": self.sessions / (limits.key_sessions * (1 if self.key else MANY)),
            "nodes": self.nodes / limits.key_nodes,
            "jobs": self.jobs / limits.key_jobs,
            "kinds": len(self.kinds) / limits.key_kinds,
            "tasks": self.tasks / limits.window_tasks,
            "stored": self.stored / limits.stored_tasks,
            "bytes": self.bytes / limits.window_bytes,
            "functions": self.function_bytes / limits.function_bytes,
            "results": self.unacked / (SESSIONS_WORTH * limits.result_bytes),
            "answers": self.answer_bytes / (SESSIONS_WORTH * limits.answer_bytes),
        }

    def _text(self, state: str, wait: str, option: str) -> str:
        return f"{self.title} {state}: {wait}, or have the broker's operator raise {option}"


class Ledgers:
    """The ledgers of all keys that have something here."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._by_key: dict[str, Ledger] = {}
        self._known: Mapping[str, Identity] = {}

    def __iter__(self) -> Iterator[Ledger]:
        return iter(self._by_key.values())

    def of(self, who: Identity) -> Ledger:
        """Return the ledger of a peer."""
        ledger = self.of_key(who.key if who.name else "")
        if ledger.key:
            ledger.name, ledger.top = who.name, min(who.top, self._limits.top_priority)
        return ledger

    def of_account(self, account: str) -> Ledger:
        """Return the ledger of the key on whose account a durable job runs."""
        prefix, _, key = account.partition(":")
        return self.of_key(key if prefix == "key" else "")

    def of_key(self, key: str) -> Ledger:
        """Return the ledger of a public key; of all without their own if it is empty."""
        ledger = self._by_key.get(key)
        if ledger is None:
            ledger = self._by_key[key] = Ledger(key, self._limits)
            self._name(ledger)
        return ledger

    def called(self, account: str) -> str:
        """Return what an account is called, for people."""
        prefix, _, key = account.partition(":")
        if prefix != "key":
            return account
        ledger = self._by_key.get(key)
        return f"key:{(ledger and ledger.name) or key[:16]}"

    def know(self, known: Mapping[str, Identity]) -> None:
        """Take over which keys are let in, what they are called and may do."""
        self._known = known
        for ledger in self._by_key.values():
            self._name(ledger)

    def known(self, key: str) -> Identity | None:
        """Return whose a public key is; `None` if it is not let in."""
        return self._known.get(key)

    def tidy(self, ledger: Ledger) -> None:
        """Forget a ledger if nothing of its key is here."""
        if ledger.key and ledger.empty:
            self._by_key.pop(ledger.key, None)

    def used(self) -> dict[str, float]:
        """Return which part of each budget the key uses that uses most of it."""
        most: dict[str, float] = {}
        for ledger in self._by_key.values():
            for budget, part in ledger.used().items():
                most[budget] = max(part, most.get(budget, 0.0))
        return most

    def _name(self, ledger: Ledger) -> None:
        who = self._known.get(ledger.key)
        if who is not None and who.name:
            ledger.name, ledger.top = who.name, min(who.top, self._limits.top_priority)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
