"""The page on operations: its three hosts, by its own commands, on hosts with a network of their own."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from manyhands.cli._app import app
from manyhands.testbed import Host, Network, unavailable
from manyhands_broker.http.metrics import COUNTERS, GAUGES
from support import eventually

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
#: The page's addresses; they are all that is changed in its commands.
ADDRESSES = ["10.0.0.5", "10.0.0.6", "10.0.0.7"]
_BLOCK = re.compile(r"^<!-- run: (.+?) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "the block has ended"
_SECONDS = 60.0

# What this machine has not got is stood in for: an index to install from, and ssh between the hosts.
PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin" && ln -s {manyhands} "$3/bin/manyhands" && ln -s {pip} "$3/bin/pip"
else
  exec {python} "$@"
fi
"""
PIP = """#!/bin/sh
[ "$1 $2" = "install --quiet" ] && echo "$3" >> {installed}
"""
SCP = """#!/bin/sh
[ "$1" = -p ] && cp -p "$2" {homes}/"${{3%:}}"/
"""


class Terminal:
    """A shell that stays open on one host, in a home of its own."""

    def __init__(self, host: Host, homes: Path, tools: Path) -> None:
        self.home = homes / host.address
        self.home.mkdir()
        environment = {
            **os.environ,
            "HOME": str(self.home),
            "PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        with host.inside():
            self.process = subprocess.Popen(
                ["bash", "-eu"],
                cwd=self.home,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def paste(self, block: str) -> str:
        """Run a block to its end, of which every command must succeed; what it printed."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{block}echo {_END}\n")
        stdin.flush()
        said = []
        for line in stdout:
            if line.strip() == _END:
                return "".join(said)
            said.append(line)
        raise AssertionError(f"failed:\n{block}\n{''.join(said)}{self.logs()}")

    def logs(self) -> str:
        return "\n".join(file.read_text() for file in self.home.glob("*.log"))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[dict[str, Terminal]]:
    """One for each host of the page, by its address there."""
    homes, tools = tmp_path / "homes", tmp_path / "tools"
    homes.mkdir()
    tools.mkdir()
    binaries = Path(sys.executable).parent
    scripts = {
        "python3": PYTHON.format(
            manyhands=binaries / "manyhands", pip=tools / "pip", python=sys.executable
        ),
        "pip": PIP.format(installed=tmp_path / "installed"),
        "scp": SCP.format(homes=homes),
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    with ExitStack() as stack:
        network = stack.enter_context(Network(len(ADDRESSES)))
        opened = {}
        for address, host in zip(ADDRESSES, network.hosts, strict=True):
            opened[address] = Terminal(host, homes, tools)
            stack.callback(opened[address].close)
        yield opened


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
    # Nobody gets in without the key: not from a host of the network, not by leaving the variable out.
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
    assert listed >= {*GAUGES, *(f"{name}_total" for name in COUNTERS)}
    others = {"up", "ready", "info", "nodes", "broker_cpu_seconds_total"}
    known = {*GAUGES, *(f"{name}_total" for name in COUNTERS)}
    assert listed - known <= {f"manyhands_{name}" for name in others}


def test_there_are_commands_to_run() -> None:
    assert len(_BLOCK.findall(PAGE)) >= 8
