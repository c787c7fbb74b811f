"""Functions by digest, for as long as a job needs them and a while longer; and how long they took."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from manyhands_broker.core.job import Job
from manyhands_broker.core.session import Session
from manyhands_shared.messages import Function
from manyhands_shared.serial import total


class Functions:
    """The functions that the broker has, and the jobs that wait for one that it lacks."""

    #: Bytes of functions that no job uses, kept because one often comes back.
    SPARE_BYTES = 64 << 20

    def __init__(self) -> None:
        self._known: dict[bytes, Function] = {}
        self._users: dict[bytes, int] = {}
        self._spare: OrderedDict[bytes, int] = OrderedDict()
        self._spare_bytes = 0
        self._waiting: dict[bytes, list[Job]] = {}
        #: Seconds that a task took, in the last job of each function.
        self._seconds: dict[bytes, float] = {}

    def get(self, digest: bytes) -> Function | None:
        """The function, or `None` if it has not come or is gone."""
        return self._known.get(digest)

    def name(self, digest: bytes) -> str:
        """Its name for people."""
        function = self._known.get(digest)
        return function.name if function is not None else ""

    def add(self, function: Function) -> list[Job]:
        """Take a function in; returns the jobs that waited for it."""
        digest = function.digest
        if digest not in self._known:
            self._known[digest] = function
            if not self._users.get(digest):
                self._set_aside(digest)
        return self._waiting.pop(digest, [])

    def use(self, job: Job) -> bool:
        """A job needs its function; returns whether it is here."""
        digest = job.function
        job.guess = self._seconds.get(digest)
        self._users[digest] = self._users.get(digest, 0) + 1
        if digest in self._spare:
            self._spare_bytes -= self._spare.pop(digest)
        if digest in self._known:
            return True
        self._waiting.setdefault(digest, []).append(job)
        return False

    def wanted(self, *sessions: Session) -> list[bytes]:
        """Digests of the functions that jobs of these sessions wait for."""
        return [
            digest
            for digest, jobs in self._waiting.items()
            if any(job.session in sessions for job in jobs)
        ]

    def release(self, job: Job) -> None:
        """A job is over."""
        digest = job.function
        waiting = self._waiting.get(digest)
        if waiting is not None and job in waiting:
            waiting.remove(job)
            if not waiting:
                del self._waiting[digest]
        if job.estimate is not None:
            self._seconds[digest] = job.estimate
        self._users[digest] -= 1
        if not self._users[digest]:
            del self._users[digest]
            if digest in self._known:
                self._set_aside(digest)
            else:
                self._seconds.pop(digest, None)

    def _set_aside(self, digest: bytes) -> None:
        size = total(self._known[digest].bodies)
        self._spare[digest] = size
        self._spare_bytes += size
        while self._spare_bytes > self.SPARE_BYTES and len(self._spare) > 1:
            oldest, freed = self._spare.popitem(last=False)
            self._spare_bytes -= freed
            del self._known[oldest]
            self._seconds.pop(oldest, None)


def is_true(function: Function) -> bool:
    """Whether a function is what its digest says.

    Functions are shared by their digests: a false one would have the jobs of others run it.
    """
    if len(function.bodies) != 1:
        return False
    body = function.bodies[0]
    digest = blake2b(digest_size=16)
    for part in body if isinstance(body, tuple) else (body,):
        digest.update(part)
    return digest.digest() == function.digest
