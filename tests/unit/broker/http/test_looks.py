"""What running tasks do, from the page: who may look, what nodes are asked, and what a page is told."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.brokers.broker_process import Broker, Peer, client_hello, submit, worker_hello
from harness.brokers.dashboard import Answer, order, running
from manyhands_shared.protocol import messages as m
from manyhands_shared.security.cluster_key import ClusterKey

TEXT = '  File "x.py", line 3 in inner\n  File "x.py", line 9 in outer\n'


class Scene:
    """A broker, a node that has a task of a job, and what pages ask meanwhile."""

    def __init__(self, broker: Broker, url: str) -> None:
        self.url = url
        self.node, self.client = Peer(broker.address), Peer(broker.address)
        self.node.send(worker_hello())
        self.node.until(m.WorkerWelcome)
        self.node.send(m.Renew(1, 1, 100, []))
        self.client.send(client_hello())
        submit(self.client, 2)
        self.node.until(m.Assign, 60)
        self._pages = ThreadPoolExecutor()

    def look(self, what: str, **fields: Any) -> Any:
        """Have a page ask; return what comes of it later."""
        return self._pages.submit(order, self.url, what, path="/api/look", **fields)

    def asked(self) -> m.Inspect:
        """What the node is asked."""
        found: m.Inspect = self.node.until(m.Inspect, 60)
        return found

    def tell(self, question: m.Inspect, count: int, error: str = "") -> None:
        """Have the node answer."""
        stacks = [m.Stack("job", 1, 0, 0, 77, count, TEXT)]
        self.node.send(m.Inspected(question.request, error, [] if error else stacks, 2))

    def close(self) -> None:
        self.node.close()
        self.client.close()
        self._pages.shutdown()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with running(http="127.0.0.1:0", lease=3_600.0) as (broker, url):
        made = Scene(broker, url)
        try:
            yield made
        finally:
            made.close()


def told(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_the_stacks_of_a_job_come_from_its_nodes(scene: Scene) -> None:
    page = scene.look("stacks", id="job")
    question = scene.asked()
    assert (question.job, question.indices, question.seconds) == ("job", [], 0.0)
    scene.tell(question, 1)
    found = told(page.result(100))
    assert found["notes"] == []
    [stack] = found["stacks"]
    assert (stack["node"], stack["index"], stack["text"]) == ("node", 0, TEXT)


def test_one_task_and_a_node_are_looked_at(scene: Scene) -> None:
    page = scene.look("stacks", id="job", task=0)
    question = scene.asked()
    assert question.indices == [0]
    scene.tell(question, 1)
    assert len(told(page.result(100))["stacks"]) == 1
    page = scene.look("stacks", node="node")
    question = scene.asked()
    assert question.job == ""
    scene.tell(question, 1)
    assert len(told(page.result(100))["stacks"]) == 1


def test_a_profile_is_counted_and_drawn(scene: Scene) -> None:
    page = scene.look("profile", id="job", seconds=0.2)
    question = scene.asked()
    assert (question.job, question.seconds) == ("job", 0.2)
    scene.tell(question, 40)
    found = told(page.result(100))
    assert (found["looks"], found["nodes"]) == (40, 1)
    assert found["notes"] == ["2 looks left out: no room for their stacks"]
    assert found["functions"][0] == {
        "function": "inner",
        "file": "x.py",
        "itself": 40,
        "whole": 40,
    }
    titles = [one.text or "" for one in ET.fromstring(found["svg"]).iter() if "title" in one.tag]
    assert {title.partition(",")[0] for title in titles} == {"inner", "outer"}
    names = [frame["name"] for frame in found["speedscope"]["shared"]["frames"]]
    assert names == ["outer", "inner"]


def test_a_node_that_cannot_look_is_named(scene: Scene) -> None:
    page = scene.look("stacks", id="job")
    scene.tell(scene.asked(), 1, error="it is busy")
    answer = page.result(100)
    assert (answer.status, answer.body) == (409, "node node: it is busy\n")


@pytest.mark.parametrize(
    ("what", "fields", "status", "words"),
    [
        ("stacks", {"id": "none"}, 409, "no job 'none'"),
        ("stacks", {"node": "none"}, 409, "no node 'none'"),
        ("stacks", {}, 409, "other fields"),
        ("stacks", {"id": 7}, 409, "other fields: id"),
        ("stacks", {"id": "job", "task": -1}, 409, "other fields: task"),
        ("profile", {"node": "node"}, 409, "an id"),
        ("profile", {"id": "job", "seconds": 600}, 409, "seconds"),
        ("profile", {"id": "job", "seconds": True}, 409, "seconds"),
        ("cancel", {"id": "job"}, 404, "no such order"),
    ],
)
def test_what_cannot_be_looked_at_is_said(
    scene: Scene, what: str, fields: dict[str, Any], status: int, words: str
) -> None:
    answer = scene.look(what, **fields).result(100)
    assert answer.status == status
    assert words in answer.body


def test_pages_of_others_look_at_nothing(scene: Scene) -> None:
    answer = order(scene.url, "stacks", "http://evil.example", path="/api/look", id="job")
    assert answer.status == 403


def test_one_without_a_token_looks_at_no_stack(tmp_path: Path) -> None:
    file = tmp_path / "cluster.key"
    key = ClusterKey.new()
    key.save(file)
    with running(http="127.0.0.1:0", key_file=str(file)) as (broker, url):
        client = Peer(broker.address, key)
        try:
            client.send(client_hello())
            submit(client, 1)
            client.until(m.Accepted)
            for what, fields in (("stacks", {"id": "job"}), ("stacks", {"node": "node"})):
                answer = order(url, what, path="/api/look", **fields)
                assert answer.status == 409
                assert "takes an admin's key" in answer.body
        finally:
            client.close()
