"""Brokers and nodes as processes of their own, which a test may kill, stop, starve and start again."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from harness.environments.other_python import run_in
from harness.processes import free_port, import_path

START_SECONDS = 100.0
LEAVE_SECONDS = 60.0


class Part:
    """A process with its log in a file."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(
        self,
        module: str,
        config: Mapping[str, Any],
        *,
        prefix: Sequence[str] = (),
        options: Sequence[str] = (),
        descriptors: Sequence[int] = (),
        python: Path | None = None,
    ) -> None:
        """Start it; `prefix` is a command that runs it, such as ``unshare -m``.

        `python`: the interpreter of another environment (see `other_python`).
        """
        environment = {**os.environ, **import_path()}
        command = [sys.executable]
        if python is not None:
            command, environment = run_in(python)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    *(*command, "-m", module, "--config-json", json.dumps(config)),
                    *("--parent-pid", str(os.getpid())),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                pass_fds=descriptors,
                env=environment,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        """What it has said."""
        return self.log_file.read_text(errors="replace")

    @property
    def rss(self) -> int:
        """Its resident memory in bytes, without that of its children."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(START_SECONDS)

    def close(self, *, timeout: float = LEAVE_SECONDS) -> int:
        """SIGTERM, then SIGKILL; its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
            self.kill()
        return self.process.returncode


class Broker(Part):
    """A broker that keeps its port through restarts."""

    def __init__(
        self,
        folder: Path,
        *,
        prefix: Sequence[str] = (),
        module: str = "manyhands_broker",
        **config: Any,
    ) -> None:
        super().__init__("broker", folder)
        self._module = module
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._config = {"bind": self.address, "beat_port": self.port, **config}
        self._prefix = prefix
        self.start()

    def start(self) -> None:
        """Start, and wait until it listens."""
        reader, writer = os.pipe()
        try:
            options = ("--ready-fd", str(writer))
            self.spawn(
                self._module,
                self._config,
                prefix=self._prefix,
                options=options,
                descriptors=[writer],
            )
        finally:
            os.close(writer)
        with os.fdopen(reader) as pipe:
            assert select.select([pipe], [], [], START_SECONDS)[0], "the broker does not start"
            assert pipe.readline(), self.log


class Node(Part):
    """A node with one slot, unless told otherwise."""

    def __init__(
        self,
        folder: Path,
        address: str,
        name: str = "node",
        *,
        module: str = "manyhands_worker",
        prefix: Sequence[str] = (),
        python: Path | None = None,
        **config: Any,
    ) -> None:
        super().__init__(name, folder)
        self._config = {"broker": address, "name": name, "slots": 1, **config}
        self._module = module
        self._prefix = prefix
        self._python = python
        self.start()

    def start(self) -> None:
        """Start; it joins by itself."""
        self.spawn(self._module, self._config, prefix=self._prefix, python=self._python)

    @property
    def children(self) -> list[psutil.Process]:
        """All its processes but itself."""
        try:
            children: list[psutil.Process] = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return children
