"""What a cell of a notebook shows of work under way, in a kernel of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from harness.browser import browser, needs_chromium
from manyhands import LocalCluster

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

PICTURES = os.environ.get("MANYHANDS_TEST_PICTURES", "")
EVIL = "<img src=x onerror=window.hacked=1>"
CELLS = [
    f"""
import sys
import manyhands
def step(number):
    import time
    time.sleep(0.01)
    return number
executor = manyhands.Executor()
futures = [executor.submit(step, number) for number in range(40)]
before = set(sys.modules)
manyhands.progress(futures, label={EVIL!r})
print("rich", "rich" in set(sys.modules) - before)
""",
    """
for number in executor.map(step, range(300), progress=True):
    print("line", number)
""",
    """
pool = manyhands.Pool(2, address=executor.address)
print(sum(pool.imap_unordered(step, iter(range(30)), progress=True)))
""",
    "executor",
    "client = manyhands.Client(executor.address)\nclient",
    f"""
job = client.submit_job(step, [(1,), (2,)], name={EVIL!r})
job.results()
job
""",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """What each cell has as its output, once all have run."""
    home = tmp_path_factory.mktemp("notebook")
    with LocalCluster(nodes=1, slots=2) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYHANDS_BROKER", cluster.address)
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(home))
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
        where = {"metadata": {"path": str(home)}}
        nbclient.NotebookClient(made, timeout=100, kernel_name="python3", resources=where).execute()
    return [cell.outputs for cell in made.cells]


def printed(output: list[Any]) -> str:
    return "".join(one.text for one in output if one.output_type == "stream")


def shown(output: list[Any]) -> dict[str, str]:
    """The one thing that a cell displays, as a notebook keeps it."""
    [data] = [one.data for one in output if one.output_type != "stream"]
    return dict(data)


def test_futures_are_shown_until_all_have_ended(outputs: list[list[Any]]) -> None:
    drawn = shown(outputs[0])
    assert re.fullmatch(rf"{re.escape(EVIL)} 40 of 40 · \d+\.\d s", drawn["text/plain"])
    assert "width:100.00%" in drawn["text/html"]
    assert "<img" not in drawn["text/html"]
    assert printed(outputs[0]) == "rich False\n"


def test_what_a_cell_prints_meanwhile_is_all_there(outputs: list[list[Any]]) -> None:
    assert printed(outputs[1]) == "".join(f"line {number}\n" for number in range(300))
    assert shown(outputs[1])["text/plain"].startswith("300 of 300 · ")


def test_where_the_number_is_not_known_what_has_ended_is_counted(outputs: list[list[Any]]) -> None:
    assert printed(outputs[2]) == "435\n"
    assert shown(outputs[2])["text/plain"].startswith("30 · ")
    assert "width:" not in shown(outputs[2])["text/html"].partition("min-")[0]


@needs_chromium
def test_a_browser_draws_bars_and_objects_as_text(outputs: list[list[Any]], tmp_path: Path) -> None:
    page = tmp_path / "cells.html"
    drawn = "<hr>".join(shown(one)["text/html"] for one in outputs)
    page.write_text(f"<meta charset=utf-8><body id=main data-ready=1>{drawn}")
    with browser() as tab:
        tab.size(900, 900)
        tab.open(page.as_uri())
        assert tab.evaluate("window.hacked") is None
        assert tab.evaluate("document.images.length") == 0
        text = tab.evaluate("document.body.innerText")
        assert text.count(EVIL) == 2
        for sign in ("manyhands executor", "manyhands client", "slots", "1 ready", "done"):
            assert sign in text
        bars = "[...document.querySelectorAll('div[style*=\"width:100\"]')]"
        assert tab.evaluate(
            f"{bars}.map((bar) => bar.offsetWidth > 100 && bar.offsetHeight > 5)"
        ) == [*(True, True, True)]
        if PICTURES:
            tab.picture(Path(PICTURES) / "notebook.png")
