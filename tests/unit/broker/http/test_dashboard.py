"""The dashboard's server: who is let in, what is sent, and what may be ordered, and by whom."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from harness.brokers.broker_process import Broker, Peer, client_hello, submit, worker_hello
from harness.brokers.dashboard import ask, enter, events, order, running, way_in
from manyhands_broker.http.admission.access import ENTER, GUEST, STAY, Access
from manyhands_broker.http.patches import difference
from manyhands_shared.protocol import messages as m
from manyhands_shared.security.cluster_key import ClusterKey


@pytest.fixture(scope="module")
def open_one() -> Iterator[tuple[Broker, str]]:
    """On loopback, without keys."""
    # Nodes that speak by hand send no heartbeats, and are not suspected for that.
    with running(http="127.0.0.1:0", beat_interval=3_600.0) as started:
        yield started


@pytest.fixture(scope="module")
def keyed_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, str, ClusterKey]]:
    """On all addresses, with a key."""
    file = tmp_path_factory.mktemp("key") / "cluster.key"
    key = ClusterKey.new()
    key.save(file)
    with running(http="0.0.0.0:0", key_file=str(file)) as (broker, url):
        yield broker, url, key


def test_on_loopback_the_page_and_its_files_need_nothing(open_one: tuple[Broker, str]) -> None:
    _, url = open_one
    page = ask(url, "/")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    script = ask(url, "/static/app.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = ask(url, "/static/app.js", If_None_Match=script.headers["etag"])
    assert (again.status, again.body) == (304, "")
    assert ask(url, "/static/../app.py").status == 404
    assert ask(url, "/static/vendor/uPlot.LICENSE.txt").body.startswith("The MIT License")


def test_every_file_that_a_page_names_is_served(open_one: tuple[Broker, str]) -> None:
    _, url = open_one
    folder = Path(__file__).parents[4] / "broker" / "manyhands_broker" / "http" / "page"
    for file in folder.rglob("*.*"):
        path = f"/static/{file.relative_to(folder).as_posix()}"
        assert ask(url, path).status == 200, path
        if file.suffix in (".html", ".css") or (file.suffix == ".js" and "vendor" not in path):
            assert "://" not in file.read_text(encoding="utf-8").replace("http://www.w3.org", "")


def test_a_page_gets_the_whole_and_then_what_changes(open_one: tuple[Broker, str]) -> None:
    broker, url = open_one
    client = Peer(broker.address)
    try:
        with events(url, "view=overview&view=jobs") as told:
            first = {one["view"]: one for one in (next(told), next(told))}
            assert set(first) == {"overview", "jobs"}
            assert first["overview"]["whole"]["figures"]["nodes"]["ready"] >= 0
            client.send(client_hello())
            submit(client, 3)
            patch = next(one["patch"] for one in told if one["view"] == "jobs" and "patch" in one)
            [row] = patch["p"]["jobs"]["s"].values()
            columns = first["jobs"]["whole"]["job_columns"]
            job = dict(zip(columns, row, strict=True))
            assert (job["tasks"], job["state"]) == (3, "queued")
    finally:
        client.close()


def test_a_job_is_cancelled_and_what_cannot_be_is_said(open_one: tuple[Broker, str]) -> None:
    broker, url = open_one
    client = Peer(broker.address)
    try:
        client.send(client_hello())
        submit(client, 2)
        job = client.until(m.Accepted).jobs[0].job
        assert order(url, "pause", id=job).status == 200
        assert json.loads(order(url, "cancel", id=job).body) == {"id": job, "cancelled": True}
        statuses = client.until(m.Results).groups[0].statuses
        assert set(statuses) == {m.Status.CANCELLED}
        unknown = order(url, "cancel", id="none")
        assert (unknown.status, unknown.body) == (
            409,
            "no job 'none' here; `manyhands jobs` lists them\n",
        )
        assert order(url, "drain", node="none").status == 409
        assert order(url, "backup", directory="/tmp").status == 404
    finally:
        client.close()


@pytest.mark.parametrize("length", [3_900, 4_096, 5_000, 9_000])
def test_a_long_question_ends_no_broker(open_one: tuple[Broker, str], length: int) -> None:
    broker, url = open_one
    with events(url, f"view=job:{'x' * length}") as told:
        assert next(told)["whole"]["error"]
    assert broker.process.poll() is None
    with events(url, "view=jobs") as told:
        assert "jobs" in next(told)["whole"]


@pytest.mark.parametrize("odd", ["\ud800", 10**30, float("nan"), {"a": [1]}, None])
def test_odd_fields_of_orders_are_refused(open_one: tuple[Broker, str], odd: object) -> None:
    _, url = open_one
    assert order(url, "cancel", id=odd).status == 409


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost", ""])
def test_a_page_of_another_origin_can_order_nothing(
    open_one: tuple[Broker, str], origin: str
) -> None:
    _, url = open_one
    assert order(url, "cancel", origin, id="none").status == 403


def test_a_page_of_another_origin_can_read_nothing(open_one: tuple[Broker, str]) -> None:
    _, url = open_one
    for path in ("/api/events?view=jobs", "/", "/metrics"):
        assert ask(url, path, Origin="http://evil.example").status == 403
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert ask(url, path, **headers).status == 403
    assert ask(url, "/", Host="evil.example").status == 421
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(url, "/", **link).status == 200


def test_orders_are_small_json_objects(open_one: tuple[Broker, str]) -> None:
    _, url = open_one
    plain = ask(
        url, "/api/order", "POST", {"what": "cancel"}, Origin=url, Content_Type="text/plain"
    )
    assert plain.status == 415
    json_type = {"Content-Type": "application/json", "Origin": url}
    assert ask(url, "/api/order", "POST", ["cancel"], **json_type).status == 400
    assert ask(url, "/api/order", "POST", {"what": "x" * 5_000}, **json_type).status == 413
    assert order(url, "cancel", id="x" * 500).status == 409


def test_without_a_token_another_address_answers_nothing_but_401(
    keyed_one: tuple[Broker, str, ClusterKey],
) -> None:
    _, url, _ = keyed_one
    for path in ("/", "/static/app.js", "/api/events?view=jobs", "/enter?token=x", "/enter"):
        answer = ask(url, path)
        assert answer.status == 401, path
        assert "manyhands dashboard" in answer.body
    assert order(url, "cancel", id="none").status == 401
    assert order(url, "cancel", id="none", cookie="manyhands=stay.9999999999..00").status == 401


def test_with_a_token_a_page_may_do_what_the_key_may(
    keyed_one: tuple[Broker, str, ClusterKey],
) -> None:
    broker, url, key = keyed_one
    found = way_in(broker, key)
    cookie = enter(url, found["token"])
    assert ask(url, "/", Cookie=cookie).status == 200
    with events(url, "view=jobs", cookie) as told:
        assert next(told)["whole"]["may"] is True
    assert order(url, "cancel", cookie=cookie, id="none").status == 409
    # A cookie is no token to enter with, nor the other way round.
    assert ask(url, f"/enter?token={cookie.partition('=')[2]}").status == 401
    assert ask(url, "/", Cookie=f"manyhands={found['token']}").status == 401


def test_a_cookie_holds_when_the_broker_has_been_started_again(tmp_path: Path) -> None:
    file, other = tmp_path / "cluster.key", tmp_path / "other.key"
    key = ClusterKey.new()
    key.save(file)
    ClusterKey.new().save(other)
    with running(http="127.0.0.1:0", key_file=str(file)) as (broker, url):
        cookie = enter(url, way_in(broker, key)["token"])
    for place, may in ((file, True), (other, False)):
        with (
            running(http="127.0.0.1:0", key_file=str(place)) as (_, url),
            events(url, "view=jobs", cookie) as told,
        ):
            assert next(told)["whole"]["may"] is may


def test_on_loopback_with_keys_one_without_a_token_may_look_and_not_act(tmp_path: Path) -> None:
    file = tmp_path / "cluster.key"
    ClusterKey.new().save(file)
    with running(http="127.0.0.1:0", key_file=str(file)) as (_, url):
        with events(url, "view=jobs") as told:
            assert next(told)["whole"]["may"] is False
        refused = order(url, "drain", node="any")
        assert refused.status == 409
        assert "takes an admin's key" in refused.body


def test_a_stream_outlives_other_connections_and_a_slow_reader_harms_nobody(
    open_one: tuple[Broker, str],
) -> None:
    _, url = open_one
    parts = urlsplit(url)
    slow = [socket.create_connection((parts.hostname, parts.port)) for _ in range(10)]
    try:
        for one in slow:
            one.sendall(b"GET /api/events?view=stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with events(url, "view=events") as told:
            assert next(told)["view"] == "events"
    finally:
        for one in slow:
            one.close()
    assert ask(url, "/livez").status == 200


def test_what_is_looked_at_has_a_bound(open_one: tuple[Broker, str]) -> None:
    _, url = open_one
    assert ask(url, "/api/events").status == 404
    assert ask(url, "/api/events?view=secrets").status == 404
    assert ask(url, "/api/events?" + "&".join(["view=jobs"] * 7)).status == 404
    with events(url, "view=job:none") as told:
        assert "no job 'none' here" in next(told)["whole"]["error"]


def test_nodes_are_told_with_their_figures(open_one: tuple[Broker, str]) -> None:
    broker, url = open_one
    node = Peer(broker.address)
    try:
        node.send(worker_hello())
        node.until(m.WorkerWelcome)
        with events(url, "view=nodes") as told:
            whole = next(told)["whole"]
            [(name, row)] = whole["nodes"].items()
            assert dict(zip(whole["node_columns"], row, strict=True))["state"] == "ready"
        with events(url, f"view=node:{name}") as told:
            assert next(told)["whole"]["node"]["name"] == name
    finally:
        node.close()


def test_a_stream_sends_runs_and_only_then_slots_again_when_they_change(
    open_one: tuple[Broker, str],
) -> None:
    broker, url = open_one
    node = Peer(broker.address)
    try:
        with events(url, "view=stream") as told:
            assert "slots" in next(told)["whole"]
            later = (one["runs"] for one in islice(told, 100))
            assert any("slots" not in one for one in later), "nothing has changed"
            node.send(worker_hello("streamed", b"s" * 16))
            assert any("streamed" in one.get("slots", {}) for one in later)
    finally:
        node.close()


def test_reports_of_load_tests_are_kept_for_pages(open_one: tuple[Broker, str]) -> None:
    broker, url = open_one
    client = Peer(broker.address)
    try:
        client.send(client_hello())
        client.until(m.ClientWelcome)
        for number in range(10):
            client.send(m.Query(number, "report", {"text": f"report {number}"}))
            assert client.until(m.Reply).error == ""
        client.send(m.Query(11, "report", {"text": "x" * 25_000}))
        assert "1 to 24,000" in client.until(m.Reply).error
        with events(url, "view=loadtests") as told:
            reports = next(told)["whole"]["reports"]
            assert [one["text"] for one in reports] == [f"report {n}" for n in range(9, 1, -1)]
            assert reports[0]["by"] == "test"
    finally:
        client.close()


def test_of_what_runs_a_page_is_sent_what_has_changed() -> None:
    with ExitStack() as stack:
        # Nodes that other tests have left would be given its tasks.
        broker, url = stack.enter_context(running(http="127.0.0.1:0", beat_interval=3_600.0))
        node, client = (stack.enter_context(closing(Peer(broker.address))) for _ in range(2))
        client.send(client_hello())
        client.until(m.ClientWelcome)
        node.send(worker_hello("busy", b"b" * 16))
        node.until(m.WorkerWelcome)
        submit(client, 2, "live")
        node.until(m.Assign)

        def tell(*slots: int) -> None:
            figures = [n for slot in slots for n in (slot, 1, slot, 2_000_000, 2_000_000, *[0] * 6)]
            node.send(m.Ran([], [m.RunGroup("live", 1, figures)]))

        told = stack.enter_context(events(url, "view=stream"))
        assert next(told)["whole"]["running"] == {}
        later = (one["runs"]["running"] for one in told if "running" in one["runs"])
        tell(0)
        assert list(next(later)["s"]) == ["0 busy"]
        tell(0, 1)
        assert "1 busy" in next(later)["s"]
        tell(1)
        assert next(later)["d"] == ["0 busy"]


# Parts


def test_tokens_hold_for_their_time_and_kind_alone() -> None:
    access = Access(open=False, keyed=True)
    token = access.make(ENTER, "ab12", 100.0)
    assert access.read(ENTER, token, 159.0) == "ab12"
    assert access.read(ENTER, token, 161.0) is None
    assert access.read(STAY, token, 101.0) is None
    assert access.read(ENTER, token[:-1] + ("0" if token[-1] != "0" else "1"), 101.0) is None
    assert access.read(ENTER, token.replace("ab12", "cd34"), 101.0) is None
    assert Access(open=False, keyed=True).read(ENTER, token, 101.0) is None
    assert access.visitor("", 100.0) is None
    assert Access(open=True, keyed=True).visitor("", 100.0) == GUEST
    assert Access(open=True, keyed=False).visitor("", 100.0) == ""


def test_a_patch_makes_the_new_of_the_old() -> None:
    old = {"a": 1, "rows": {"x": [1], "y": [2]}, "gone": {"z": 1}, "list": [1, 2]}
    new = {"a": 2, "rows": {"x": [1], "y": [3], "w": [4]}, "list": [1, 3], "fresh": {}}
    patch = difference(old, new)
    assert patch == {
        "d": ["gone"],
        "s": {"a": 2, "list": [1, 3], "fresh": {}},
        "p": {"rows": {"s": {"y": [3], "w": [4]}}},
    }
    assert difference(new, new) == {}
