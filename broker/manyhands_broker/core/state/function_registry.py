"""Functions by digest, for as long as a job needs them and a while longer; and how long they took."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.quotas import Ledger
from manyhands_broker.core.model.session import Session
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol.messages import Function


class Functions:
    """The functions that the broker has, and the jobs that wait for one that it lacks.

    The modules that a job brings (its bundle) are kept as functions are: to the broker they are bytes
    with a digest too.
    Functions are shared by their digests. But only a key that has sent a function may have it run. What
    a function closed over is not for those who merely know its digest.
    """

    #: Bytes of functions that no job uses; one often comes back.
    SPARE_BYTES = 32 << 20

    def __init__(self) -> None:
        self._known: dict[bytes, Function] = {}
        #: Accounts that have sent it.
        self._senders: dict[bytes, set[str]] = {}
        #: How many jobs of each key need it: it counts once against the budget of each.
        self._users: dict[bytes, Counter[Ledger]] = {}
        self._spare: OrderedDict[bytes, int] = OrderedDict()
        self._spare_bytes = 0
        #: Jobs that wait, and whether it may be a function of any sender that they wait for.
        self._waiting: dict[bytes, dict[Job, bool]] = {}
        #: Seconds that a task took, in the last job of each function.
        self._seconds: dict[bytes, float] = {}

    def get(self, digest: bytes) -> Function | None:
        """Return the function, or `None` if it has not come or is gone."""
        return self._known.get(digest)

    def name(self, digest: bytes) -> str:
        """Return its name for people."""
        function = self._known.get(digest)
        return function.name if function is not None else ""

    def costs(self, digests: Iterable[bytes], ledger: Ledger) -> int:
        """Return the bytes that another job of these counts against a key's budget."""
        return sum(self._cost(digest, ledger) for digest in digests)

    def _cost(self, digest: bytes, ledger: Ledger) -> int:
        function = self._known.get(digest)
        if function is None or ledger in self._users.get(digest, ()):
            return 0
        return size_of(function)

    def cost_of(self, function: Function, ledger: Ledger) -> int:
        """Return the bytes that a function counts against a key's budget once it has come."""
        digest = function.digest
        waits = digest not in self._known and ledger in self._users.get(digest, ())
        return size_of(function) if waits else 0

    def add(self, function: Function, account: str) -> list[Job]:
        """Take in a function that an account has sent; return the jobs that waited for it."""
        digest = function.digest
        self.keep(function)
        self.own(digest, account)
        waiting = self._waiting.get(digest, {})
        found = [job for job, any_ in waiting.items() if any_ or job.session.account == account]
        for job in found:
            self._stop_waiting(job, digest)
        return found

    def keep(self, function: Function) -> None:
        """Have a function, of any sender."""
        digest = function.digest
        if digest not in self._known:
            self._known[digest] = function
            self._senders[digest] = set()
            for ledger in self._users.get(digest, ()):
                ledger.function_bytes += size_of(function)
            if not self._users.get(digest):
                self._set_aside(digest)

    def own(self, digest: bytes, account: str) -> None:
        """Note that an account has a function that is here."""
        self._senders[digest].add(account)

    def use(self, job: Job, *, trusted: bool) -> bool:
        """Count a job; return whether its function and bundle are here, and the job may have them.

        `trusted`: whether they may be what another account has sent.
        """
        ledger = job.session.ledger
        job.guess = self._seconds.get(job.function)
        for digest in job.digests:
            ledger.function_bytes += self._cost(digest, ledger)
            self._users.setdefault(digest, Counter())[ledger] += 1
            if digest in self._spare:
                self._spare_bytes -= self._spare.pop(digest)
            known = digest in self._known
            if not (known and (trusted or job.session.account in self._senders[digest])):
                self._waiting.setdefault(digest, {})[job] = trusted
        return not self.missing(job)

    def missing(self, job: Job) -> list[bytes]:
        """Return the digests of what a job waits for."""
        return [digest for digest in job.digests if job in self._waiting.get(digest, ())]

    def wanted(self, *sessions: Session) -> list[bytes]:
        """Return the digests of the functions that jobs of these sessions wait for."""
        return [
            digest
            for digest, jobs in self._waiting.items()
            if any(job.session in sessions for job in jobs)
        ]

    def give_up(self, digest: bytes, ledger: Ledger) -> list[Job]:
        """Return the jobs of a key that wait for a function which will not come; they wait no more."""
        jobs = [job for job in self._waiting.get(digest, ()) if job.session.ledger is ledger]
        for job in jobs:
            self._stop_waiting(job, *job.digests)
        return jobs

    def release(self, job: Job) -> None:
        """Count a job less: it is over."""
        ledger = job.session.ledger
        self._stop_waiting(job, *job.digests)
        if job.estimate is not None:
            self._seconds[job.function] = job.estimate
        for digest in job.digests:
            users = self._users[digest]
            users[ledger] -= 1
            if not users[ledger]:
                del users[ledger]
                ledger.function_bytes -= self._cost(digest, ledger)
            if not users:
                del self._users[digest]
                if digest in self._known:
                    self._set_aside(digest)
                else:
                    self._seconds.pop(digest, None)

    def bytes_of(self, ledger: Ledger) -> int:
        """Return the bytes of the functions that jobs of a key use, counted anew."""
        return sum(
            size_of(self._known[digest])
            for digest, users in self._users.items()
            if ledger in users and digest in self._known
        )

    def _stop_waiting(self, job: Job, *digests: bytes) -> None:
        for digest in digests:
            waiting = self._waiting.get(digest)
            if waiting is not None and waiting.pop(job, None) is not None and not waiting:
                del self._waiting[digest]

    def _set_aside(self, digest: bytes) -> None:
        size = size_of(self._known[digest])
        self._spare[digest] = size
        self._spare_bytes += size
        while self._spare_bytes > self.SPARE_BYTES and len(self._spare) > 1:
            oldest, freed = self._spare.popitem(last=False)
            self._spare_bytes -= freed
            del self._known[oldest]
            self._senders.pop(oldest, None)
            self._seconds.pop(oldest, None)


def size_of(function: Function) -> int:
    """Return what a function takes, in bytes."""
    return total(function.bodies) + 4 * len(function.name)


def is_true(function: Function) -> bool:
    """Return whether a function is what its digest says.

    Functions are shared by their digests: a false one would have the jobs of others run it.
    """
    if len(function.bodies) != 1:
        return False
    body = function.bodies[0]
    digest = blake2b(digest_size=16)
    for part in body if isinstance(body, tuple) else (body,):
        digest.update(part)
    return digest.digest() == function.digest
