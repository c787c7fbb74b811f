"""Programs of several processes, run as scripts: on one host, or with nodes on hosts of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.cluster.parts import Broker, Node
from harness.processes import eventually, import_path, without_waits
from manyhands import Client

#: What makes two hosts of one machine.
HOST = "MANYHANDS_TEST_HOST"
SECONDS = 110.0
# By lines, as on a terminal. Without buffers a line and its end are two writes: others come between.
_HEAD = """\
import manyhands.multiprocessing as mp, os, select, signal, sys, time
if sys.stdout:
    sys.stdout.reconfigure(line_buffering=True)
"""


class Hosts:
    """A broker, and nodes called by the host that each is on.

    Args:
        folder: for logs.
        names: of the hosts.
        broker: options of the broker's.
    """

    def __init__(self, folder: Path, names: Iterable[str] = ("a", "b"), **broker: Any) -> None:
        self.folder = folder
        self.broker = Broker(folder, **broker)
        self.nodes: dict[str, Node] = {}
        #: What is called at the end besides.
        self.stack = ExitStack()
        try:
            for name in names:
                self.add(name)
            with Client(self.broker.address) as client:
                count = len(self.nodes)
                eventually(lambda: len(client.query("nodes")) == count, what="nodes joined")
        except BaseException:
            self.close()
            raise

    def add(self, name: str, **config: Any) -> Node:
        """Start a node on a host of its own."""
        prefix = ["env", f"{HOST}=:{name}"]
        node = Node(self.folder, self.broker.address, name, prefix=prefix, **config)
        self.nodes[name] = node
        return node

    def close(self) -> None:
        """End all of it."""
        self.stack.close()
        for node in self.nodes.values():
            node.close()
        self.broker.close()


class Script:
    """A program as a script in a process of its own.

    Args:
        folder: where the script is.
        text: what it does; the usual modules are imported, `mp` among them.
        address: of the broker; empty for a cluster of its own.
        host: on which it runs, by the name of a node; empty: on one without a node.
        more: of its environment.
        arguments: of the script.
    """

    def __init__(
        self,
        folder: Path,
        text: str,
        *,
        address: str = "",
        host: str = "",
        more: Mapping[str, str] | None = None,
        arguments: Iterable[str] = (),
    ) -> None:
        path = folder / "script.py"
        path.write_text(_HEAD + textwrap.dedent(text))
        environment = {**os.environ, **import_path()}
        environment.pop("PYTHONUNBUFFERED", None)
        if address:
            environment["MANYHANDS_BROKER"] = address
            environment[HOST] = f":{host}" if host else ":root"
        environment.update(more or {})
        self.process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=environment,
            process_group=0,
        )
        self.lines: list[str] = []

    def until(self, beginning: str) -> str:
        """Read what it prints up to a line that begins so; return the rest of that line."""
        assert self.process.stdout is not None
        for line in iter(self.process.stdout.readline, b""):
            self.lines.append(line.decode().rstrip("\n"))
            if self.lines[-1].startswith(beginning):
                return self.lines[-1][len(beginning) :].strip()
        raise AssertionError(f"no line {beginning!r}: {self.lines}, {self.finish()[1]}")

    def finish(self) -> tuple[int, str]:
        """Wait for its end; return its exit code, and what it wrote to standard error."""
        try:
            out, err = self.process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"it does not end: {self.lines}, {out!r}, {err!r}") from None
        self.lines += out.decode().splitlines()
        return self.process.returncode, without_waits(err.decode())

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.communicate()


#: Runs a script somewhere.
Run = Callable[[str], Script]
