"""Jobs as the command line names them: by id, or by the beginning of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from manyhands import Client, Job
from manyhands.cli import _connect, _output
from manyhands.cli._errors import JobFailed

#: How jobs end; see `manyhands jobs`.
ENDED = ("done", "failed", "cancelled")
T = TypeVar("T")


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


def order(orders: str, done: str, texts: tuple[str, ...], *, json: bool, **connection: Any) -> None:
    """Give an order for jobs, if all are there, and print what became of each.

    Args:
        orders: the method of `Job` that gives it.
        done: what has become of the job then.
        texts: ids of jobs, or beginnings of them.
        json: whether to print one document.
        connection: of the client.

    Raises:
        JobFailed: one is not there; then no job gets the order.
    """
    given = []
    with _connect.client(**connection) as client:
        for job in [client.job(find(client, text)["id"]) for text in texts]:
            getattr(job, orders)()
            given.append({"id": job.id, "state": done})
            if not json:
                _output.say(f"{job.id} {done}")
    if json:
        _output.document(jobs=given)


def note_durability(client: Client) -> bool:
    """Return whether the broker keeps durable jobs over its own end; say so if it does not."""
    is_lasting: bool = client.query("health").get("journal", True)
    if not is_lasting:
        _output.note(
            "the broker has no journal: this job and its results end with the broker; a broker with "
            "--journal DIRECTORY keeps them"
        )
    return is_lasting


@contextmanager
def durable_job(text: str, *, trust: bool = False, **connection: Any) -> Iterator[Job]:
    """A durable job of the named broker; `trust` as `Client.attach` has it."""
    with _connect.client(**connection) as client:
        yield client.attach(find(client, text)["id"], trust=trust)


def patiently(ask: Callable[[], T]) -> T:
    """Return what `ask` returns; ask again as long as the broker is away."""
    while True:
        try:
            return ask()
        except TimeoutError:
            continue
