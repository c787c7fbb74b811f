"""The dashboard in a browser: every page with three nodes and mixed work under way.

With `MANYHANDS_TEST_PICTURES=DIRECTORY` the tests write there what they see.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from browser.mixed_work import EVIL, evil, fit_model, read_sensor, render_frame, wait_for
from harness.browser import Browser, browser, needs_chromium
from harness.processes import eventually
from manyhands import Client, Executor, Job, LocalCluster

pytestmark = needs_chromium
PICTURES = os.environ.get("MANYHANDS_TEST_PICTURES", "")
EVIL_NODE = "<b onclick=alert(1)>edsger</b>"


class Stage(NamedTuple):
    """A cluster at work, and a browser beside it."""

    cluster: LocalCluster
    client: Client
    tab: Browser
    url: str
    jobs: dict[str, Job]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    gate = tmp_path_factory.mktemp("gate") / "open"
    with (
        LocalCluster(nodes=0, slots=3, broker={"http": "127.0.0.1:0"}) as cluster,
        Client(cluster.address) as client,
        browser() as tab,
    ):
        for name in ("ada", "grace", EVIL_NODE):
            cluster.add_node(name)
        client.wait_for_nodes(3, timeout=120)
        jobs = {
            "held": client.submit_job(wait_for, [(str(gate),)] * 4, name="held back"),
            "sensors": client.submit_job(read_sensor, [(n,) for n in range(300)]),
            "frames": client.submit_job(render_frame, [(n,) for n in range(4_000)], name="frames"),
            "models": client.submit_job(fit_model, [(n,) for n in range(400)]),
            "evil": client.submit_job(evil, [(0,), (1,)], name=EVIL, durable=True),
        }
        eventually(
            lambda: len(client.query("history", id=jobs["frames"].id).get("runs", ())) > 50,
            timeout=120,
            what="nodes have told of runs",
        )
        assert jobs["evil"].wait(120)
        yield Stage(cluster, client, tab, cluster.dashboard_url, jobs)
        gate.touch()
        for job in jobs.values():
            job.cancel()


def picture(stage: Stage, name: str) -> None:
    if PICTURES:
        stage.tab.picture(Path(PICTURES) / f"dashboard-{name}.png")


def look(
    stage: Stage, page: str, *, dark: bool = False, size: tuple[int, int] = (1440, 900)
) -> Any:
    """Open a page; nothing of what others have called things may have become more than text."""
    tab = stage.tab
    tab.size(*size, phone=size[0] < 500, scale=2 if size[0] < 500 else 1)
    tab.open(f"{stage.url}/{page}")
    wanted = "dark" if dark else "light"
    if tab.evaluate("document.documentElement.dataset.theme") != wanted:
        tab.evaluate("document.getElementById('theme').click()")
    if PICTURES:
        seen = tab.evaluate("performance.now()")
        tab.until(f"performance.now() > {seen} + 4000")
    assert tab.evaluate("window.hacked") is None
    assert tab.evaluate("document.querySelectorAll('#main img, #main script').length") == 0
    assert tab.errors == []
    return tab.evaluate("document.getElementById('main').textContent")


def test_overview(stage: Stage) -> None:
    text = look(stage, "#/", size=(1440, 1180))
    assert "of 9" in text, "slots"
    assert EVIL_NODE in text
    stage.tab.until("document.querySelectorAll('.u-over').length === 2", "charts")
    stage.tab.until("document.querySelectorAll('tbody tr').length >= 5", "jobs")
    picture(stage, "overview")


@pytest.mark.parametrize(
    ("page", "sign"),
    [
        ("#/tasks", "Task stream"),
        ("#/jobs", "read_sensor"),
        ("#/nodes", EVIL_NODE),
        ("#/node/ada", "Slots busy"),
        ("#/programs", "No program of several processes runs"),
        ("#/events", "The latest two hundred"),
    ],
)
def test_pages(stage: Stage, page: str, sign: str) -> None:
    assert sign in look(stage, page)
    stage.tab.until("document.getElementById('link').dataset.state === 'live'")
    picture(stage, page[2:].partition("/")[0])


def test_one_job(stage: Stage) -> None:
    text = look(stage, f"#/job/{stage.jobs['sensors'].id}", size=(1440, 1300))
    assert "ValueError sensor" in text
    assert "How long its tasks took" in text
    groups = stage.tab.until("document.querySelectorAll('details.error').length")
    assert groups == 2
    trace = stage.tab.evaluate("document.querySelector('details.error pre').textContent")
    assert "read_sensor" in trace
    assert "raise ValueError" in trace
    picture(stage, "job")


def test_what_tasks_raise_and_print_stays_text(stage: Stage) -> None:
    text = look(stage, f"#/job/{stage.jobs['evil'].id}")
    assert text.count("<img src=x onerror=window.hacked=1>") >= 2
    assert EVIL in stage.tab.evaluate("document.querySelector('h1').textContent")


def test_dark_and_phone(stage: Stage) -> None:
    look(stage, "#/", dark=True, size=(1440, 1180))
    background = stage.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(14, 17, 23)"
    picture(stage, "dark")
    for page, name in (("#/", "phone"), (f"#/job/{stage.jobs['sensors'].id}", "phone-job")):
        look(stage, page, size=(390, 844))
        wide = stage.tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{page} scrolls sideways"
        picture(stage, name)


def test_keys_lead_to_pages(stage: Stage) -> None:
    look(stage, "#/")
    for key, page in (("j", "#/jobs"), ("n", "#/nodes"), ("s", "#/tasks"), ("o", "#/")):
        for kind in ("keyDown", "keyUp"):
            stage.tab.ask("Input.dispatchKeyEvent", type=kind, key=key, text=key)
        stage.tab.until(f"location.hash === '{page}'")


def test_a_job_is_cancelled_from_its_page(stage: Stage) -> None:
    job = stage.jobs["held"]
    look(stage, f"#/job/{job.id}")
    button = "document.querySelector('[data-order=cancel]')"
    stage.tab.until(f"{button} !== null")
    stage.tab.evaluate(f"{button}.click()")
    assert stage.tab.evaluate(f"{button}.textContent") == "Really cancel?"
    stage.tab.evaluate(f"{button}.click()")
    assert job.wait(120)
    assert stage.client.query("job", id=job.id)["state"] == "cancelled"
    stage.tab.until("document.querySelector('.badge').textContent === 'cancelled'")
    assert not stage.tab.evaluate(f"{button} !== null"), "there is nothing left to cancel"


def test_a_page_goes_on_when_its_server_comes_back(stage: Stage) -> None:
    look(stage, "#/jobs")
    broker = psutil.Process(stage.cluster.broker.pid)  # type: ignore[union-attr]
    port = int(stage.url.rpartition(":")[2])
    server = next(
        child
        for child in broker.children()
        if any(link.laddr.port == port and link.raddr for link in child.net_connections("tcp"))
    )
    server.kill()
    stage.tab.until("document.getElementById('link').dataset.state === 'lost'")
    stage.tab.until("document.getElementById('link').dataset.state === 'live'")
    before = stage.tab.evaluate("document.querySelectorAll('tbody tr').length")
    stage.client.submit_job(abs, [(1,), (2,)], name="later")
    stage.tab.until(f"document.querySelectorAll('tbody tr').length > {before}")
    stage.tab.errors.clear()


def test_pages_that_are_left_hold_no_connection(stage: Stage) -> None:
    # A browser has six connections for one server; it keeps pages that were left, for the way back.
    for page in ("#/", "#/tasks", "#/jobs", "#/nodes", "#/events", "#/programs", "#/", "#/jobs"):
        look(stage, page)


def test_an_executor_knows_where_the_dashboard_is(stage: Stage) -> None:
    with Executor(address=stage.cluster.address) as executor:
        assert executor.dashboard_url == stage.url
