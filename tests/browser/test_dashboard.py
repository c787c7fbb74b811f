"""The dashboard in a browser: every page with three nodes and mixed work under way.

With `MANYHANDS_TEST_PICTURES=DIRECTORY` the tests write there what they see.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import psutil
import pytest

from browser.mixed_work import (
    EVIL,
    evil,
    fit_model,
    leave,
    read_sensor,
    render_frame,
    spin,
    wait_for,
)
from harness.browser import Browser, browser, needs_chromium
from harness.processes import eventually
from harness.programs import Script
from manyhands import Client, Executor, Job, LocalCluster

pytestmark = needs_chromium
PICTURES = os.environ.get("MANYHANDS_TEST_PICTURES", "")
EVIL_NODE = "<b onclick=alert(1)>edsger</b>"


PROGRAM = """
    def keep(lock, queue, held):
        with lock:
            held.set()
            queue.get()

    def wait(lock):
        lock.acquire()

    if __name__ == "__main__":
        lock, queue, held = mp.Lock(), mp.Queue(), mp.Event()
        mp.Process(target=keep, args=(lock, queue, held), name="keeper").start()
        held.wait()
        for number in range(2):
            mp.Process(target=wait, args=(lock,), name=f"waiter {number}").start()
        print("all are there")
        time.sleep(600)
"""
REPORT = {
    "version": 1,
    "mix": "noop",
    "setting": f"today · 3 nodes · {EVIL}",
    "verdict": "All 1,200 answers came, once each, and were right.",
    "bad": False,
    "headline": [["most done", "412 tasks/s", "in any one step"]],
    "notes": ["Clients, broker and nodes shared this machine's 2 cores."],
    "points": [
        [n * 100.0, min(n * 100.0, 412.0), n * n * 1e-4, n * n * 1e-3] for n in (1, 2, 3, 4, 5)
    ],
    "tables": [
        {
            "title": "Steps: the cluster, 3 nodes, 9 slots",
            "about": "Latency runs from the intended start of a task to its result at the client.",
            "headings": ["load", "tasks/s", "50 %", "99 %", "max"],
            "rows": [
                [f"{n}00 tasks/s", f"{n}00", f"{n}.{n} ms", f"{n * 4} ms", f"{n * 9} ms"]
                for n in (1, 2, 3, 4)
            ],
        }
    ],
}


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
            "failed": client.submit_job(read_sensor, [(n,) for n in range(40)], durable=True),
            "evil": client.submit_job(evil, [(0,), (1,)], name=EVIL, durable=True),
        }
        eventually(
            lambda: len(client.query("history", id=jobs["frames"].id).get("runs", ())) > 50,
            timeout=120,
            what="nodes have told of runs",
        )
        assert jobs["evil"].wait(120)
        assert jobs["failed"].wait(120)
        client.query("report", text=json.dumps(REPORT))
        yield Stage(cluster, client, tab, cluster.dashboard_url, jobs)
        gate.touch()
        for job in jobs.values():
            job.cancel()


def picture(stage: Stage, name: str) -> None:
    if PICTURES:
        stage.tab.picture(Path(PICTURES) / f"dashboard-{name}.png")


def button(label: str) -> str:
    """An expression for the button of this label."""
    return (
        f"[...document.querySelectorAll('main button')].find(one => one.textContent === '{label}')"
    )


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


def shows(stage: Stage, sign: str) -> None:
    """Wait until the page shows a text. It is drawn before all that belongs to it has come."""
    text = "document.getElementById('main').textContent"
    stage.tab.until(f"{text}.includes({json.dumps(sign)})", sign)


def test_overview(stage: Stage) -> None:
    look(stage, "#/", size=(1440, 1180))
    # Of its slots.
    shows(stage, "of 9")
    shows(stage, EVIL_NODE)
    stage.tab.until("document.querySelectorAll('.u-over').length === 2", "charts")
    stage.tab.until("document.querySelectorAll('tbody tr').length >= 5", "jobs")
    picture(stage, "overview")


@pytest.mark.parametrize(
    ("page", "sign", "name"),
    [
        ("#/tasks", "Task stream", "tasks"),
        ("#/jobs", "read_sensor", "jobs"),
        ("#/nodes", EVIL_NODE, "nodes"),
        ("#/node/ada", "Slots busy", "node"),
        ("#/programs", "No program of several processes runs", "programs-empty"),
        ("#/loadtests", "All 1,200 answers came", "loadtests"),
        ("#/events", "Nothing unusual has happened", "events-empty"),
    ],
)
def test_pages(stage: Stage, page: str, sign: str, name: str) -> None:
    look(stage, page)
    shows(stage, sign)
    stage.tab.until("document.getElementById('link').dataset.state === 'live'")
    picture(stage, name)


def test_times_are_rounded_before_they_are_taken_apart(stage: Stage) -> None:
    look(stage, "#/events")
    told = stage.tab.evaluate(
        "import('/static/format.js').then(({ seconds }) =>"
        " [59.4, 60, 119.6, 3599.7, 3661, 7199, 86399, 90000].map(seconds))"
    )
    assert told == [
        *("59.4 s", "1 m 0 s", "2 m 0 s", "1 h 0 m"),
        *("1 h 1 m", "2 h 0 m", "1 d 0 h", "1 d 1 h"),
    ]


def test_what_runs_is_drawn_and_grows(stage: Stage, tmp_path: Path) -> None:
    tab, gate = stage.tab, tmp_path / "gate"
    job = stage.client.submit_job(wait_for, [(str(gate),)], priority=9)
    try:
        look(stage, "#/tasks")
        seen = """import('/static/lanes.js').then(({ Lanes }) => {
            const add = Lanes.prototype.add;
            Lanes.prototype.add = function (data) { window.stream = this; add.call(this, data); };
        })"""
        tab.evaluate(seen)
        of = json.dumps(job.id)
        bar = f"window.stream?.running.find((one) => one[0] === {of})"
        tab.until(f"{bar} !== undefined", "the task that runs")
        took = tab.evaluate(f"stream.finish({bar}) - {bar}[7]")
        tab.until(f"stream.finish({bar}) - {bar}[7] > {took} + 1", "it grows")
        begun = tab.evaluate(f"{bar}[7]")
        gate.touch()
        assert job.wait(120)
        tab.until(f"{bar} === undefined", "it runs no more")
        ended = f"stream.runs.find((one) => one[0] === {of})"
        tab.until(f"{ended} !== undefined", "it is there as one that has ended")
        assert abs(tab.evaluate(f"{ended}[7]") - begun) < 1
    finally:
        gate.touch()


def test_one_job(stage: Stage) -> None:
    look(stage, f"#/job/{stage.jobs['sensors'].id}", size=(1440, 1300))
    shows(stage, "ValueError sensor")
    shows(stage, "How long its tasks took")
    stage.tab.until("document.querySelectorAll('details.error').length === 2", "both errors")
    trace = stage.tab.evaluate("document.querySelector('details.error pre').textContent")
    assert "read_sensor" in trace
    assert "raise ValueError" in trace
    picture(stage, "job")


def test_what_tasks_raise_and_print_stays_text(stage: Stage) -> None:
    look(stage, f"#/job/{stage.jobs['evil'].id}")
    text = "document.getElementById('main').textContent"
    stage.tab.until(f"{text}.split('<img src=x onerror=window.hacked=1>').length > 2", "both")
    shown = EVIL.replace("\u202e", "\N{REPLACEMENT CHARACTER}")
    assert shown in stage.tab.evaluate("document.querySelector('h1').textContent")
    stage.tab.until(
        f"document.querySelector('pre.output').textContent.includes({json.dumps(shown)})"
    )
    assert "\u202e" not in stage.tab.evaluate("document.body.textContent")


def test_of_a_long_table_only_what_is_seen_is_in_the_page(stage: Stage) -> None:
    look(stage, "#/events")
    made = """import('/static/table.js').then(({ Table }) => {
        const columns = [{ title: 'N', cell: (row) => row.n, sort: (row) => row.n }];
        window.long = new Table(columns, { sort: 0 });
        document.getElementById('main').append(long.element);
        long.update(new Map(Array.from({ length: 1000 }, (_, n) => [n, { n }])));
    })"""
    stage.tab.evaluate(made)
    row = "[...long.body.querySelectorAll('tr:not(.space)')]"
    rows = f"{row}.map((row) => Number(row.textContent))"
    seen = stage.tab.evaluate(rows)
    assert seen[:3] == [0, 1, 2]
    assert len(seen) < 100
    stage.tab.evaluate("long.element.scrollTop = 1e6")
    assert stage.tab.until(f"{rows}.includes(999) && {rows}")[-1] == 999
    tall = stage.tab.evaluate("long.table.offsetHeight / long.rowHeight")
    assert 1_000 < tall < 1_010, "the bar shows how long it is"
    stage.tab.evaluate("long.filter = '\"n\":777'; long.order()")
    assert stage.tab.evaluate(rows) == [777]


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


def test_stacks_and_a_profile_from_the_pages(stage: Stage, tmp_path: Path) -> None:
    tab, gate = stage.tab, tmp_path / "gate"
    job = stage.client.submit_job(spin, [(str(gate),)], name="hot")
    try:
        look(stage, f"#/job/{job.id}", size=(1440, 1500))
        tab.until(
            f"!({button('Show stacks')}?.closest('section').hidden ?? true)", "who may sees it"
        )

        def seen() -> bool:
            tab.evaluate(f"{button('Show stacks')}.click()")
            tab.until(f"{button('Show stacks')} !== undefined", "an answer")
            return "in spin" in tab.evaluate("document.getElementById('main').textContent")

        eventually(seen, timeout=120, what="the stack of the running task")
        named = "document.querySelector('.what').textContent.match(/node (.*), slot/)[1]"
        node = tab.evaluate(named)
        tab.evaluate("document.querySelector('select').value = '2'")
        tab.evaluate(f"{button('Profile')}.click()")
        box = "[...document.querySelectorAll('.flame button')].find(one => one.textContent === 'spin')"
        tab.until(f"{box} !== undefined", "the flame graph")
        # Of the picture: where this file lies is of no interest.
        tab.evaluate("document.querySelector('pre.stack').closest('.card > div').replaceChildren()")
        picture(stage, "flame")
        tab.evaluate(f"{box}.click()")
        assert tab.evaluate("document.querySelectorAll('.flame button.outside').length") >= 1
        tab.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        for kind in ("svg", "speedscope"):
            tab.evaluate(f"document.querySelector('[data-save={kind}]').click()")
        [drawn] = eventually(lambda: list(tmp_path.glob("profile-*.svg")), timeout=60)
        [scope] = eventually(lambda: list(tmp_path.glob("profile-*.speedscope.json")), timeout=60)
        assert ">spin, " in drawn.read_text()
        assert "spin" in [one["name"] for one in json.loads(scope.read_text())["shared"]["frames"]]
        look(stage, f"#/node/{quote(node)}")
        tab.evaluate(f"{button('Show stacks')}.click()")
        tab.until("document.querySelector('pre.stack')?.textContent.includes('in ')", "its stacks")
        assert tab.errors == []
    finally:
        gate.touch()
        job.cancel()


def test_failed_tasks_are_run_again_from_the_page(stage: Stage) -> None:
    job = stage.jobs["failed"]
    look(stage, f"#/job/{job.id}")
    again = "document.querySelector('[data-order=retry]')"
    stage.tab.until(f"{again} !== null")
    assert stage.tab.evaluate(f"{again}.textContent") == "Run 5 again"
    stage.tab.evaluate(f"{again}.click()")
    stage.tab.evaluate(f"{again}.click()")
    stage.tab.until(f"location.hash.startsWith('#/job/') && location.hash !== '#/job/{job.id}'")
    made = stage.tab.evaluate("location.hash.slice(6)")
    stage.tab.until("document.querySelector('.badge')?.textContent === 'failed'")
    found = stage.client.query("job", id=made)
    assert (found["tasks"], found["failed"]) == (5, 5)


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


@pytest.mark.parametrize(
    "file", ["app.js", "format.js", "pages/jobs.js", "vendor/uPlot.iife.min.js", "style.css"]
)
def test_a_page_without_one_of_its_files_loads_again(stage: Stage, file: str) -> None:
    # Other tests' interfaces come and go, and each change breaks off what the browser is loading.
    tab = stage.tab
    # Notes for how long the page waits until it loads again.
    note = (
        "const start = setTimeout; window.setTimeout = (call, wait) => {"
        " if (/reload/.test(call)) sessionStorage.waits = `${sessionStorage.waits ?? ''}${wait} `;"
        " return start(call, wait); }"
    )
    noting = tab.ask("Page.addScriptToEvaluateOnNewDocument", source=note)
    try:
        tab.block(f"*/static/{file}")
        tab.ask("Page.navigate", url="about:blank")
        tab.ask("Page.navigate", url=f"{stage.url}/#/jobs")
        # It waits longer each time, for this browser may never get the file.
        tab.until("sessionStorage.waits === '1000 2000 '", "a second failure")
    finally:
        tab.block()
        tab.ask("Page.removeScriptToEvaluateOnNewDocument", **noting)
    tab.until("performance.getEntriesByType('navigation')[0].type === 'reload'", "loaded again")
    tab.until("document.getElementById('main')?.dataset.ready", "data")
    tab.until("document.styleSheets.length === 3 && window.uPlot", "all files")
    tab.until("sessionStorage.tries === undefined", "a new count")
    tab.evaluate("delete sessionStorage.waits")
    assert tab.errors == []


def test_an_executor_knows_where_the_dashboard_is(stage: Stage) -> None:
    with Executor(address=stage.cluster.address) as executor:
        assert executor.dashboard_url == stage.url


def test_a_program_that_lives_is_shown_with_what_its_processes_wait_for(
    stage: Stage, tmp_path: Path
) -> None:
    program = Script(tmp_path, PROGRAM, address=stage.cluster.address)
    try:
        program.until("all are there")
        look(stage, "#/programs")
        row = "[...document.querySelectorAll('tbody tr')].map((one) => one.textContent)"
        stage.tab.until(f"{row}.filter((text) => text.includes('waiter')).length === 2")
        stage.tab.until(
            f"{row}.filter((text) => /waiter.*Lock/i.test(text)).length === 2", "a lock"
        )
        stage.tab.until(f"{row}.some((text) => /keeper.*Queue/i.test(text))", "a queue")
        picture(stage, "programs")
    finally:
        program.kill()


def test_events_say_what_has_happened(stage: Stage) -> None:
    job = stage.client.submit_job(leave, [(3,)], crash_limit=1, priority=9, name="ends its process")
    assert job.wait(120)
    look(stage, "#/events")
    stage.tab.until("document.getElementById('main').textContent.includes('exited with code 3')")
    picture(stage, "events")
