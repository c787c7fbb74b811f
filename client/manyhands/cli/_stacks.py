"""Asking nodes what the tasks of a job do."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from manyhands.cli import _named, _output
from manyhands.cli._errors import JobFailed
from manyhands_shared.errors import ManyhandsError

if TYPE_CHECKING:
    from manyhands import Client

#: Nodes that are asked at a time.
MOST_NODES = 64
#: What the broker gives a node to answer, and a while more.
_ANSWER_SECONDS = 30.0


class Looks(NamedTuple):
    """What nodes have answered: how many did, and how many of how many looks had no room."""

    stacks: list[dict[str, Any]]
    nodes: int
    left_out: int


def of_target(client: Client, text: str) -> list[dict[str, Any]]:
    """What runs now of a task (`JOB/INDEX`), a job, or on a node.

    Raises:
        JobFailed: there is no such job, task or node; or none of its tasks runs.
    """
    job_text, _, index = text.rpartition("/")
    if job_text and index.isdigit():
        job = _named.find(client, job_text)["id"]
        answer = client.query("stacks", id=job, task=int(index))
        found = _of(answer)
        words = (
            f"task {index} of job {job} has not begun on node {answer['node']}, or ended just now"
        )
    elif client.query("jobs", begins=text):
        job = _named.find(client, text)["id"]
        found = of_job(client, job, 0.0).stacks
        words = f"no task of job {job} runs just now; see: manyhands why {job}"
    else:
        if all(node["name"] != text for node in client.query("nodes")):
            raise JobFailed(
                f"no job and no node is called {text}; see: manyhands jobs, manyhands nodes"
            )
        found = _of(client.query("stacks_of_node", node=text))
        words = f"no task runs on node {text} just now"
    if not found:
        raise JobFailed(words)
    return found


def of_job(client: Client, job: str, seconds: float) -> Looks:
    """What tasks of a job do, now or for `seconds`, on all of its nodes.

    A node that does not answer is named on stderr, and left out.

    Raises:
        Refused: the job is over, or not known.
    """
    names: list[str] = client.query("nodes_of", id=job)
    if len(names) > MOST_NODES:
        _output.note(f"of {len(names)} nodes that run it, {MOST_NODES} are looked at")
    asked: list[Future[Any]] = [
        client._io.ask("stacks", {"id": job, "on_node": name, "seconds": seconds})
        for name in names[:MOST_NODES]
    ]
    stacks: list[dict[str, Any]] = []
    nodes = left_out = 0
    refused: Exception | None = None
    for one in asked:
        try:
            answer = one.result(seconds + _ANSWER_SECONDS)
        except (ManyhandsError, TimeoutError) as error:
            refused = error
            continue
        nodes += 1
        stacks += _of(answer)
        left_out += answer["left_out"]
    if refused is not None:
        if not nodes:
            raise refused
        _output.note(str(refused))
    return Looks(stacks, nodes, left_out)


def _of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"node": answer["node"], **one} for one in answer["stacks"]]
