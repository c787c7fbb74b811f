"""The dashboard's server as a page and a stranger see it: requests, event streams, orders."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from harness.brokers.broker_process import Broker, Peer, client_hello
from harness.processes import eventually
from manyhands_shared.protocol import messages as m
from manyhands_shared.security.cluster_key import ClusterKey


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: str


def ask(url: str, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    """Send a request."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=100)
    try:
        text = None if body is None else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, text, named)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())
    finally:
        connection.close()


def order(
    url: str,
    what: str,
    origin: str | None = None,
    cookie: str = "",
    path: str = "/api/order",
    **fields: Any,
) -> Answer:
    """Give an order as the page at `origin` does; the server's own unless named."""
    headers = {"Content-Type": "application/json", "Cookie": cookie}
    if origin != "":
        headers["Origin"] = origin or url
    return ask(url, path, "POST", {"what": what, **fields}, **headers)


@contextmanager
def events(url: str, query: str, cookie: str = "") -> Iterator[Iterator[dict[str, Any]]]:
    """What a page is sent."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=100)
    try:
        connection.request("GET", f"/api/events?{query}", headers={"Cookie": cookie})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        lines = (line.decode().strip() for line in response)
        yield (json.loads(line[6:]) for line in lines if line.startswith("data: "))
    finally:
        connection.close()


def serving(broker: Broker) -> str:
    """Return where a broker serves its dashboard, once it does."""
    url: str = broker.facts["http"].replace("0.0.0.0", "127.0.0.1")

    def answers() -> bool:
        try:
            return ask(url, "/livez").status == 200
        except OSError:
            return False

    eventually(answers, what="HTTP answers")
    return url


@contextmanager
def running(**config: Any) -> Iterator[tuple[Broker, str]]:
    """A broker, and where its dashboard is."""
    broker = Broker(**config)
    try:
        yield broker, serving(broker)
    finally:
        broker.close()
        broker.process.stderr.close()  # type: ignore[union-attr]


def way_in(broker: Broker, key: ClusterKey | None = None, role: str = "client") -> dict[str, str]:
    """What the broker answers to `manyhands dashboard`."""
    peer = Peer(broker.address, key, role)
    try:
        peer.send(client_hello())
        peer.until(m.ClientWelcome)
        peer.send(m.Query(1, "dashboard", {}))
        found: dict[str, str] = peer.until(m.Reply).data
        return found
    finally:
        peer.close()


def enter(url: str, token: str) -> str:
    """The cookie for a token."""
    answer = ask(url, f"/enter?token={token}")
    assert answer.status == 303, answer
    cookie, *flags = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict"} <= set(flags)
    return cookie
