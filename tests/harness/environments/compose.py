"""A docker compose project, driven through its command."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Compose:
    """Runs compose commands for one project; every one of them is bounded in time."""

    def __init__(self, command: list[str], root: Path, environment: dict[str, str]) -> None:
        self._command = command
        self._root = root
        self._environment = environment

    def run(self, *arguments: str, timeout: float) -> str:
        """Run to the end and return what it wrote to stdout.

        Raises:
            AssertionError: it failed; with all it wrote.
        """
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=self._root,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it and return the process, with pipes for stdout and stderr."""
        return subprocess.Popen(
            [*self._command, *arguments],
            cwd=self._root,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers."""
        return self.run("ps", "-q", service, timeout=60).split()
