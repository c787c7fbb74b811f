"""`manyhands top`: what it shows, which keys do what, and that strangers' text does nothing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from harness.cluster.bench import Bench, joined
from harness.command import COMMAND, document, fails, run
from harness.processes import Gate, eventually, wait_at
from manyhands import Client
from manyhands.cli._top.app import Top
from manyhands.cli._top.columns import JOBS, NODES, SLOTS, TABLES, Row, compact, duration
from manyhands.cli._top.confirm import Confirm
from manyhands.cli._top.rows import Slots, chosen
from manyhands.cli._top.table_view import TableView

HOSTILE = "[red]evil[/red]\x1b[2J\x1b]52;c;AAAA\x07\u202e"
SECONDS = 90.0
TERMINAL = (80, 24)

Drive = Callable[[Pilot[None]], Awaitable[None]]


def driven(client: Client, drive: Drive, size: tuple[int, int] = TERMINAL) -> Top:
    """Run the screen with keys instead of a person."""

    async def main() -> Top:
        app = Top(client)
        async with app.run_test(size=size, notifications=True) as pilot:
            await drive(pilot)
        return app

    return asyncio.run(main())


def screen(pilot: Pilot[Any]) -> list[str]:
    """The lines of the screen."""
    strips = pilot.app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip) for strip in strips]


async def shows(pilot: Pilot[Any], *words: str, gone: str = "") -> str:
    """Wait until these words are on the screen; return all of it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SECONDS
    while True:
        await pilot.pause(0.02)
        text = "\n".join(screen(pilot))
        if all(word in text for word in words) and not (gone and gone in text):
            return text
        assert loop.time() < deadline, f"{words} not on the screen:\n{text}"


def state_of(client: Client, job: str) -> str:
    return str(client.query("job", id=job)["state"])


def test_jobs_are_shown_filtered_paused_and_cancelled(client: Client, gate: Gate) -> None:
    one = client.submit_job(wait_at, [(gate.path,)] * 3, name="one-job")
    other = client.submit_job(wait_at, [(gate.path,)] * 2, name=HOSTILE)

    async def drive(pilot: Pilot[None]) -> None:
        text = await shows(pilot, one.id[:8], other.id[:8], "of 2 slots busy", "q Quit", "c Cancel")
        assert "[red]evil[/red]\N{REPLACEMENT CHARACTER}[2J" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "d Drain" not in text
        assert all(len(line) == TERMINAL[0] for line in text.splitlines())
        await pilot.press("slash", *"ONE-", "enter")
        await shows(pilot, one.id[:8], 'with "ONE-"', gone=other.id[:8])
        await pilot.press("p")
        await shows(pilot, "paused")
        assert state_of(client, one.id) == "paused"
        await pilot.press("p")
        await shows(pilot, "one-job", gone="paused")
        await pilot.press("c")
        await shows(pilot, f"Cancel job {one.id[:8]} one-job?")
        await pilot.press("n")
        await shows(pilot, "c Cancel")
        assert state_of(client, one.id) != "cancelled"
        await pilot.press("c")
        await shows(pilot, "y  yes")
        assert isinstance(pilot.app.screen, Confirm)
        await pilot.press("y")
        await shows(pilot, "cancelled")
        assert state_of(client, one.id) == "cancelled"
        await pilot.press("c")
        await shows(pilot, "has ended:")
        await pilot.press("escape")
        await shows(pilot, one.id[:8], other.id[:8])

    driven(client, drive)
    other.cancel()


def test_nodes_and_slots(client: Client) -> None:
    job = client.submit_job(abs, [(-1,), (None,)])
    assert job.wait(SECONDS)
    (node,) = client.query("nodes")

    async def drive(pilot: Pilot[None]) -> None:
        await pilot.press("2")
        text = await shows(pilot, node["name"][:12], "Nodes: 1", "d Drain")
        assert "c Cancel" not in text
        assert "0/2" in text
        await pilot.press("3")
        await shows(pilot, "RUNS OR RAN", "abs", job.id[:8])
        await pilot.press("1")
        await shows(pilot, "Jobs: ", "c Cancel")
        await pilot.press("q")

    assert driven(client, drive).error is None


def test_it_outlives_its_broker_and_drains_a_node(bench: Bench) -> None:
    broker = bench.broker()
    asking = bench.client(broker.address)
    name = "[b]node\x1b[2J"
    node = bench.node(broker.address, name)
    joined(asking, 1)

    async def drive(pilot: Pilot[None]) -> None:
        await shows(pilot, "1 node ", JOBS.empty[:40])
        broker.kill()
        await shows(pilot, f"no answer from the broker at {broker.address}")
        broker.start()
        await shows(pilot, "1 node ", gone="no answer")
        await pilot.press("2")
        await shows(pilot, "[b]node\N{REPLACEMENT CHARACTER}[2J")
        await pilot.press("d")
        await shows(pilot, "Drain [b]node\N{REPLACEMENT CHARACTER}[2J?")
        await pilot.press("y")
        await shows(pilot, "0 nodes", NODES.empty[:30])

    driven(asking, drive)
    assert node.process is not None
    assert node.process.wait(SECONDS) == 0


def test_it_ends_with_its_client_and_says_why(bench: Bench) -> None:
    asking = bench.client(bench.broker().address)

    async def drive(pilot: Pilot[None]) -> None:
        await shows(pilot, "0 nodes")
        asking.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SECONDS
        while pilot.app.is_running and loop.time() < deadline:
            await pilot.pause(0.02)

    assert "closed" in str(driven(asking, drive).error)


def test_it_runs_on_a_terminal(client: Client, named: dict[str, str], gate: Gate) -> None:
    job = client.submit_job(wait_at, [(gate.path,)], name=HOSTILE)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", TERMINAL[1], TERMINAL[0], 0, 0))
    environment = {**os.environ, **named, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [*COMMAND, "top"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(ours, 4096):
                seen.extend(chunk)
        except OSError:  # the terminal's other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        eventually(lambda: job.id[:8].encode() in seen, SECONDS, what="the job is on the screen")
        os.write(ours, b"q")
        assert process.wait(SECONDS) == 0, bytes(seen)
    finally:
        process.kill()
        process.wait()
        reader.join(SECONDS)
        os.close(ours)
        job.cancel()
    assert "evil" in seen.decode()
    assert b"\x1b]52" not in seen
    assert b"Traceback" not in seen
    # It leaves the terminal as it was.
    assert seen.rindex(b"\x1b[?1049l") > seen.rindex(b"\x1b[?1049h")


def test_without_a_terminal_it_prints_once(client: Client, named: dict[str, str]) -> None:
    job = client.submit_job(abs, [(-1,)], name="abs-\x1b[2J")
    assert job.wait(SECONDS)
    shown = run("top", env=named)
    assert (shown.returncode, shown.stderr) == (0, ""), shown
    assert f"{job.id[:8]}  abs-\N{REPLACEMENT CHARACTER}[2J" in shown.stdout
    assert "1 node  0 of 2 slots busy" in shown.stdout
    told = document(run("top", "--json", env=named))
    assert job.id in {row["id"] for row in told["jobs"]}
    assert [row["slots"] for row in told["nodes"]] == [2]


def test_without_textual_it_says_what_to_install(named: dict[str, str]) -> None:
    script = (
        "import os, pty, sys\n"
        "_, terminal = pty.openpty()\n"
        "os.dup2(terminal, 0); os.dup2(terminal, 1)\n"
        "sys.modules['textual'] = None\n"
        "sys.argv[1:] = ['top']\n"
        "from manyhands.cli import main\n"
        "main()"
    )
    result = subprocess.run(
        [COMMAND[0], "-c", script],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **named, "TERM": "xterm"},
    )
    assert "pip install 'manyhands[top]'" in fails(result, 2)


# Without a broker.


def row(number: int) -> Row:
    figures = dict.fromkeys(("tasks", "queued", "active", "done", "failed", "cancelled"), number)
    return {
        "id": f"{number:016x}",
        "name": f"job {number % 7}",
        "function": "f",
        "state": "running",
        "submitted": 0.0,
        "rate": float(number),
        "eta": None,
        "owner": "",
        "durable": False,
        **figures,
    }


class Alone(App[None]):
    """A table without a broker."""

    def compose(self) -> ComposeResult:
        yield TableView(JOBS)


def test_only_what_is_seen_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [row(number) for number in range(100_000)]
    made: list[int] = []
    real = TableView.render_line

    def counted(self: TableView, y: int) -> Any:
        made.append(y)
        return real(self, y)

    async def main() -> None:
        async with Alone().run_test(size=TERMINAL) as pilot:
            view = pilot.app.query_one(TableView)
            view.focus()
            view.show(JOBS, many)
            await shows(pilot, "00000000 job 0")
            monkeypatch.setattr(TableView, "render_line", counted)
            await pilot.press("end")
            await shows(pilot, f"{many[-1]['id'][:8]}", "job 4")
            assert view.chosen is many[-1]
            assert 0 < len(made) <= 10 * TERMINAL[1]
            view.show(JOBS, many[:10])
            assert view.chosen is many[9]
            await pilot.press("home", "down")
            assert view.chosen is many[1]
            # The row stays chosen where it goes.
            view.show(JOBS, many[:10][::-1])
            assert view.chosen is many[1]

    asyncio.run(main())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_columns_fit(table: Any, width: int) -> None:
    chosen = table.chosen(width)
    assert sum(size for _, size in chosen) + len(chosen) - 1 == width
    assert all(len(column.title) < size or not column.title for column, size in chosen)
    assert {column.title for column, _ in table.chosen(200)} == {c.title for c in table.columns}


def test_numbers_stand_to_the_right() -> None:
    titles = [column.title for column in NODES.columns if column.right]
    assert titles == ["BUSY", "ACT", "CPU", "RSS", "FREE", "LOAD", "DONE"]
    [act] = [column for column in NODES.columns if column.title == "ACT"]
    assert act.cell({"active": 12_345}) == "12.3k"


def test_numbers_are_short() -> None:
    assert [compact(n) for n in (0, 0.25, 42, 999, 1_000, 12_345, 999_999, 10_000_000)] == [
        *("0", "0.25", "42", "999", "1k", "12.3k", "1000k", "10M")
    ]
    assert [duration(s) for s in (None, 0.012, 3.14, 59, 61, 7_300, 200_000)] == [
        *("-", "12ms", "3.1s", "59.0s", "1m", "2h", "2d")
    ]


def test_rows_are_sorted_and_filtered() -> None:
    rows = [row(number) for number in (3, 1, 2)]
    rate = next(column for column in JOBS.columns if column.title == "RATE")
    assert [one["rate"] for one in chosen(rows, "", rate, reverse=True)] == [3, 2, 1]
    assert [one["rate"] for one in chosen(rows, "JOB 1", None, reverse=False)] == [1]
    assert [one["rate"] for one in chosen(rows, "", None, reverse=True)] == [2, 1, 3]


def test_slots_are_those_that_are_there() -> None:
    columns = ["job", "function", "node", "slot", "attempt", "first", "tasks", "begun", "seconds"]
    columns.append("failed")
    running = {"running_columns": [*columns[:6], "begun"], "running": {}, "now": 20.5}
    slots = Slots()

    def run_on(node: str, slot: int, seq: int, there: dict[str, int]) -> list[Any]:
        run = ["job", "f", node, slot, 1, 0, 1, 5.0, 2.0, False]
        told = {"seq": seq, "runs": [run], "columns": columns, "slots": there}
        slots.take({**told, **running})
        return [(one["id"], one["ended"]) for one in slots.rows()]

    assert run_on("b", 0, 1, {"a": 2, "b": 1}) == [("b/0", 7.0)]
    assert run_on("a", 1, 2, {"a": 2, "b": 1}) == [("a/1", 7.0), ("b/0", 7.0)]
    assert run_on("a", 0, 3, {"a": 2}) == [("a/0", 7.0), ("a/1", 7.0)]
    # A broker that begins anew counts anew.
    assert run_on("a", 1, 1, {"a": 2}) == [("a/1", 7.0)]
    assert SLOTS.columns[1].key(slots.rows()[0]) == ("a", 1)
    # What runs comes before what ran there last.
    running["running"] = {"1 a": ["long", "g", "a", 1, 2, 7, 18.0]}
    assert run_on("a", 0, 2, {"a": 2}) == [("a/0", 7.0), ("a/1", None)]
    cells = [column.cell(slots.rows()[1]) for column in SLOTS.columns]
    assert cells == ["a", "1", "g", "long", "7", "2.5s", "runs", ""]
    running["running"] = {}
    assert run_on("a", 0, 3, {"a": 2}) == [("a/0", 7.0), ("a/1", 7.0)]
