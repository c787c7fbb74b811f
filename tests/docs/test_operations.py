"""The page on operations: its three hosts, by its own commands, on hosts with a network of their own."""

from __future__ import annotations

import json
import math
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.environments.terminals import Terminal, opened
from harness.processes import eventually
from manyhands.cli._app import app
from manyhands.testbed import unavailable
from manyhands_broker.http.metrics import (
    COORDINATION_COUNTERS,
    COORDINATION_GAUGES,
    COUNTERS,
    GAUGES,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
#: The page's addresses; they are all that is changed in its commands.
ADDRESSES = ["10.0.0.5", "10.0.0.6", "10.0.0.7"]
_BLOCK = re.compile(r"^<!-- run: (.+?) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECONDS = 60.0


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[dict[str, Terminal]]:
    """One for each host of the page, by its address there."""
    with opened(tmp_path, len(ADDRESSES)) as made:
        yield dict(zip(ADDRESSES, made, strict=True))


def blocks(terminals: dict[str, Terminal]) -> Iterator[tuple[str, list[Terminal], str]]:
    """Where each block of the page runs, and its text with the addresses of the test's hosts."""
    for place, text in _BLOCK.findall(PAGE):
        block = text
        for address, terminal in terminals.items():
            block = block.replace(address, terminal.home.name)
        chosen = list(terminals.values()) if place == "every host" else [terminals[place]]
        yield text, chosen, block


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "")
def test_three_hosts_by_copy_and_paste(terminals: dict[str, Terminal], tmp_path: Path) -> None:
    first, second, third = terminals.values()
    said: dict[str, str] = {}
    for text, chosen, block in blocks(terminals):
        for terminal in chosen:
            said[text] = terminal.paste(block)
        if "manyhands worker" in text:
            eventually(lambda: ready(first) == 3, _SECONDS, what="three nodes are ready")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert "all" in extras
    assert set((tmp_path / "installed").read_text().split()) == {"manyhands[all]"}

    def output_of(sign: str) -> str:
        [found] = [output for text, output in said.items() if sign in text]
        return found

    looked = output_of("manyhands nodes")
    assert all(f"node-{terminal.home.name}" in looked for terminal in (first, second, third))
    assert str(math.factorial(20)) in looked
    roots = [json.loads(line) for line in (second.home / "roots.jsonl").read_text().splitlines()]
    assert len(roots) == 1_000
    assert output_of("program.py").strip().endswith(str(sum(map(abs, range(-1_000, 1_000)))))
    assert " done" in output_of("manyhands wait")
    factorials = (first.home / "factorials.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["index"] for line in factorials) == list(range(500))
    assert "has left" in output_of("manyhands drain")
    eventually(lambda: ready(first) == 2)
    assert json.loads(output_of("/scale"))["slots_wanted"] == 0
    # No client gets in without the key: not from a host of the network, not without the variable.
    refused = third.paste(
        'env -u MANYHANDS_KEY_FILE manyhands nodes --connect-timeout 2 || echo "exit $?"\n'
    )
    assert re.search(r"exit [34]", refused)


def ready(terminal: Terminal) -> int:
    """How many nodes are, by the command in that terminal."""
    out = terminal.paste(f"{shlex.join(['manyhands', 'nodes', '--json'])} 2>&1 || true\n")
    try:
        nodes = json.loads(out)["nodes"]
    except ValueError:
        return -1
    return sum(node["state"] == "ready" for node in nodes)


@pytest.mark.parametrize(
    "line", re.findall(r"^(?:[$#] |    ')manyhands (.+?)'?$", PAGE, re.MULTILINE)
)
def test_other_commands_of_the_page_are_such_as_the_command_takes(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verb, *rest = shlex.split(line, comments=True)
    for word in rest:
        if word.endswith(".jsonl"):
            (tmp_path / word).touch()
    command = app.get_command(None, verb)  # type: ignore[arg-type]
    assert command is not None
    # A group has verbs of its own.
    if hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    with command.make_context(verb, rest):
        pass  # it opens files that are named


def test_the_table_of_metrics_is_whole() -> None:
    listed = set(re.findall(r"`(manyhands_\w+)(?:\{\w+\})?`", PAGE))
    counters = {*COUNTERS, *COORDINATION_COUNTERS}
    known = {*GAUGES, *COORDINATION_GAUGES, *(f"{name}_total" for name in counters)}
    assert listed >= known
    others = {"up", "ready", "info", "nodes", "budget_used_ratio", "broker_cpu_seconds_total"}
    others.add("coordination_operations_total")
    assert listed - known == {f"manyhands_{name}" for name in others}


def test_there_are_commands_to_run() -> None:
    assert len(_BLOCK.findall(PAGE)) >= 8
