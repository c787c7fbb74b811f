"""How far work is: bars, and objects in a notebook."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from xml.etree import ElementTree as ET

import pytest

import manyhands
from harness.processes import Gate, eventually, wait_at, without_waits
from manyhands import Client, Executor, LocalCluster, Pool
from manyhands import _html as html
from manyhands._results.pool_results import MapResult
from manyhands_shared.payloads import pickled
from manyhands_shared.protocol.status import Status


class Terminal(io.StringIO):
    """What looks like a terminal, and keeps what is written there."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """What was written, without what moves the cursor or colours it."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Have standard error be a terminal. No fixture can: pytest sets it anew before each test."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return made


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """One node with two slots."""
    with LocalCluster(nodes=1, slots=2) as running:
        yield running


def test_futures_are_shown_until_all_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    futures: list[Future[int]] = [Future() for _ in range(3)]
    futures[0].set_result(1)
    waiting = threading.Thread(target=manyhands.progress, args=(futures,), kwargs={"label": "few"})
    waiting.start()
    eventually(lambda: "1/3" in terminal.shown())
    futures[1].set_exception(ValueError("bad"))
    futures[2].cancel()
    futures[2].set_running_or_notify_cancel()
    waiting.join(100)
    assert not waiting.is_alive()
    assert "3/3" in terminal.shown()
    assert "few" in terminal.shown()
    assert manyhands.progress(futures) is futures
    assert manyhands.progress([]) == []


def test_a_label_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    manyhands.progress([], label="[red]\x1b]0;title\x07")
    assert "[red]\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}" in terminal.shown()


@pytest.mark.parametrize("durable", [False, True])
def test_a_job_is_shown_until_it_has_ended(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, gate: Gate, durable: bool
) -> None:
    terminal = on_a_terminal(monkeypatch)
    with Client(cluster.address) as client:
        job = client.submit_job(wait_at, [(gate.path,)] * 4, durable=durable)
        waiting = threading.Thread(target=manyhands.progress, args=(job,))
        waiting.start()
        eventually(lambda: "0/4" in terminal.shown())
        gate.open()
        waiting.join(100)
        assert not waiting.is_alive()
        assert "4/4" in terminal.shown()
        assert manyhands.progress(job) is job
        assert sorted(job) == [(index, "through") for index in range(4)]


def test_maps_show_how_far_they_are(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with Pool(2, address=cluster.address) as pool:
        assert pool.map(abs, range(-5, 0), 2, progress=True) == [5, 4, 3, 2, 1]
        assert "5/5" in terminal.shown()
        assert pool.starmap(pow, [(2, 3)] * 7, 1, progress=True) == [8] * 7
        assert "7/7" in terminal.shown()
        assert list(pool.imap(abs, [-1] * 8, progress=True)) == [1] * 8
        assert "8/8" in terminal.shown()
        assert list(pool.imap_unordered(abs, iter([-1] * 9), progress=True)) == [1] * 9
        assert "9/?" in terminal.shown()
    with Executor(address=cluster.address) as executor:
        assert list(executor.map(pow, [2] * 11, [3] * 12, chunksize=4, progress=True)) == [8] * 11
        assert "11/11" in terminal.shown()


def test_a_map_counts_items_though_chunks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    result = MapResult(2, chunksize=3)
    waiting = threading.Thread(target=result.wait_with_bar, args=(5,))
    waiting.start()
    body = pickled.dumps([0, 0, 0])
    result.deliver([0], bytes([Status.OK]), [body])
    eventually(lambda: "3/5" in terminal.shown())
    result.deliver([1], bytes([Status.OK]), [body])
    waiting.join(100)
    assert "5/5" in terminal.shown()


def test_off_a_terminal_nothing_is_shown(
    cluster: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    with Pool(2, address=cluster.address) as pool:
        assert pool.map(abs, [-1], progress=True) == [1]
        assert list(pool.imap(abs, [-1], progress=True)) == [1]
    done: Future[int] = Future()
    done.set_result(1)
    manyhands.progress([done])
    out, err = capfd.readouterr()
    assert (out, without_waits(err)) == ("", "")


def test_without_rich_a_sentence_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    manyhands.progress([])
    assert "pip install 'manyhands[command]'" in terminal.getvalue()


def read(drawn: str) -> str:
    """The text of an object's HTML, which must be well formed."""
    return " ".join("".join(one.itertext()) for one in ET.fromstring(drawn).iter("td"))


def test_objects_show_themselves_in_a_notebook(cluster: LocalCluster, gate: Gate) -> None:
    with Client(cluster.address) as client:
        client.wait_for_nodes(1)
        assert f"broker {cluster.address} slots 2" in read(client._repr_html_())
        eventually(lambda: "nodes 1 ready" in read(client._repr_html_()))
        name = "<script>alert(1)</script>"
        job = client.submit_job(wait_at, [(gate.path,)], name=name, durable=True)
        eventually(lambda: job.state() == "running")
        assert f"name {name} function harness.processes.wait_at state running tasks 1" in read(
            job._repr_html_()
        )
        assert "<script>" not in job._repr_html_()
        gate.open()
        assert job.wait(100)
        assert 'title="1 done"' in job._repr_html_()
    assert "state the client was closed" in read(client._repr_html_())
    assert "broker the client was closed" in read(job._repr_html_())
    assert f"broker {cluster.address}" in read(cluster._repr_html_())
    assert f"process {cluster.nodes[0].pid}" in read(cluster._repr_html_())
    with Executor(address=cluster.address) as executor:
        assert "slots 2 unfinished 0" in read(executor._repr_html_())
    assert "state shut down" in read(executor._repr_html_())


def test_a_card_is_text() -> None:
    drawn = html.card("<b>\x1b", [("a & b", '"<i>'), ("empty", ""), ("number", 1_234)])
    assert "<i>" not in drawn
    assert "\x1b" not in drawn
    assert read(drawn) == 'a & b "<i> number 1,234'
