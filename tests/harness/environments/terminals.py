"""Terminals on hosts with a network of their own, for pages whose commands are pasted there."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from harness.processes import eventually
from manyhands.testbed import Host, Network

_END = "the block has ended"

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
[ "$1" = -p ] || exit 1
shift
for to; do :; done
for from; do
  [ "$from" = "$to" ] && break
  case $from in
    *:*) cp -p {homes}/"${{from%%:*}}/${{from#*:}}" "$to" ;;
    *) cp -p "$from" {homes}/"${{to%:}}"/ ;;
  esac
done
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
        """Run a block to its end and return what it printed; every command must succeed."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{block}echo {_END}\n")
        stdin.flush()
        said: list[str] = []
        for line in stdout:
            if line.strip() == _END:
                return "".join(said)
            said.append(line)
        raise AssertionError(f"failed:\n{block}\n{''.join(said)}{self.logs()}")

    def logs(self) -> str:
        """Everything in the log files of its home."""
        return "\n".join(file.read_text() for file in self.home.glob("*.log"))

    def waits_for(self, sign: str) -> None:
        """Wait until a log in its home says `sign`."""
        eventually(lambda: sign in self.logs(), what=sign)

    def close(self) -> None:
        """End the shell."""
        self.process.kill()
        self.process.communicate()


def console_lines(page: str, section: str, home: str) -> list[list[str]]:
    """Return the lines of each console block of a section, as one types them.

    HOST is replaced by `home`, and the command by its path.
    """
    [text] = re.findall(rf"^## {section}\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    command = str(Path(sys.executable).parent / "manyhands")
    return [
        [
            re.sub(r"^\$ (manyhands\b)?", lambda found: command if found[1] else "", line).replace(
                "HOST", home
            )
            for line in block.splitlines()
        ]
        for block in blocks
    ]


@contextlib.contextmanager
def opened(folder: Path, count: int) -> Iterator[list[Terminal]]:
    """Open a terminal on each of `count` hosts, their homes below `folder`.

    What would be installed is listed in the file `installed` there.
    """
    homes, tools = folder / "homes", folder / "tools"
    homes.mkdir()
    tools.mkdir()
    binaries = Path(sys.executable).parent
    scripts = {
        "python3": PYTHON.format(
            manyhands=binaries / "manyhands", pip=tools / "pip", python=sys.executable
        ),
        "pip": PIP.format(installed=folder / "installed"),
        "scp": SCP.format(homes=homes),
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    with ExitStack() as stack:
        network = stack.enter_context(Network(count))
        terminals = []
        for host in network.hosts:
            terminals.append(Terminal(host, homes, tools))
            stack.callback(terminals[-1].close)
        yield terminals
