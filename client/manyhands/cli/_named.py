"""Jobs as the command line names them: by id, or by the beginning of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from manyhands import Client, Job
from manyhands.cli import _connect
from manyhands.cli._errors import JobFailed

#: How jobs end; see `manyhands jobs`.
ENDED = ("done", "failed", "cancelled")


def find(client: Client, text: str) -> dict[str, Any]:
    """What the broker tells of the one job whose id is `text`, or begins with it.

    Raises:
        JobFailed: there is none, or several.
    """
    jobs: list[dict[str, Any]] = client.query("jobs", begins=text) if text else []
    exact = [job for job in jobs if job["id"] == text]
    found = exact or jobs
    if not found:
        raise JobFailed(f"no such job: {text}; see: manyhands jobs")
    if len(found) > 1:
        ids = ", ".join(job["id"] for job in found[:4])
        raise JobFailed(f"{len(found)} jobs begin with {text} ({ids} …); write more of the id")
    return found[0]


@contextmanager
def durable_job(text: str, *, trust: bool = False, **connection: Any) -> Iterator[Job]:
    """A durable job of the named broker; `trust` as `Client.attach` has it."""
    with _connect.client(**connection) as client:
        yield client.attach(find(client, text)["id"], trust=trust)
