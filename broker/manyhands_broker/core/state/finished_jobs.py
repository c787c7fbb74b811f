"""Durable jobs that are over: a line about each, small enough for very many of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgpack


class FinishedJobs:
    """Summaries by job id, packed: as maps they would take ten times the memory. Latest last."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}
        self._ended: dict[str, float] = {}
        #: How many of them each account has had of each function and bundle.
        self._functions: Counter[tuple[str, bytes]] = Counter()

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._packed

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._packed)

    def __getitem__(self, job_id: str) -> dict[str, Any]:
        summary: dict[str, Any] = msgpack.unpackb(self._packed[job_id])
        return summary

    def get(self, job_id: str) -> dict[str, Any] | None:
        """Return what is known of a job; `None` if it is not here."""
        return self[job_id] if job_id in self._packed else None

    def add(self, summary: dict[str, Any]) -> None:
        """Keep a job: its map has ``id`` and, in Unix seconds, ``ended``."""
        job_id = summary["id"]
        self._packed[job_id] = msgpack.packb(summary)
        self._ended[job_id] = float(summary.get("ended", 0.0))
        self._functions.update(_functions(summary))

    def remove(self, job_id: str) -> None:
        """Forget a job that is here."""
        for function in _functions(self[job_id]):
            self._functions[function] -= 1
            if not self._functions[function]:
                del self._functions[function]
        del self._packed[job_id], self._ended[job_id]

    def has_run(self, account: str, digest: bytes) -> bool:
        """Return whether a job of an account that is here was of this function, or brought it."""
        return (account, digest) in self._functions

    def sort(self) -> None:
        """Bring them into the order in which they ended, after a restart."""
        order = sorted(self._ended, key=self._ended.__getitem__)
        self._packed = {job_id: self._packed[job_id] for job_id in order}
        self._ended = {job_id: self._ended[job_id] for job_id in order}

    def ended_before(self, when: float) -> list[str]:
        """Return the jobs that ended before `when`, which costs nothing for all others."""
        found = []
        for job_id, ended in self._ended.items():
            if ended >= when:
                break
            found.append(job_id)
        return found


def _functions(summary: dict[str, Any]) -> list[tuple[str, bytes]]:
    account, bundle = str(summary.get("account", "")), summary.get("options", {}).get("bundle")
    digests = [bytes(summary.get("digest", b""))]
    with contextlib.suppress(ValueError, TypeError):  # of a damaged job
        digests += [bytes.fromhex(bundle)] if bundle else []
    return [(account, digest) for digest in digests]
