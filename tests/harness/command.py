"""The `manyhands` command as users run it: a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.processes import without_waits

COMMAND = [sys.executable, "-W", "error", "-m", "manyhands.cli"]


def run(
    *arguments: str | Path,
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float = 110,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run it to the end; `env` comes on top of the test's own.

    What a busy machine adds to standard error is left out.
    """
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        input=stdin or None,
        stdin=None if stdin else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **(env or {})},
    )
    done.stderr = without_waits(done.stderr)
    return done


def in_shell(line: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a line of shell to its end; `env` comes on top of the test's own."""
    return subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **env},
    )


def start(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start it in a process group of its own, with pipes for stdout and stderr."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **(env or {})},
    )


@contextlib.contextmanager
def running(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The same, and it is gone afterwards."""
    with start(*arguments, cwd=cwd, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def document(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on stdout, which must be of the version that we know."""
    assert result.stdout.count("\n") == 1, result
    read: dict[str, Any] = json.loads(result.stdout)
    assert read["version"] == 1
    return read


def fails(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that it failed as everything must: this exit code, one line on stderr, no traceback."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == code, result
    assert "Traceback" not in result.stderr
    assert lines, result
    assert lines[-1].startswith("error: "), result
    return lines[-1]


def first_line(process: subprocess.Popen[str]) -> str:
    """What a service says on stdout once it serves; a service that ends instead says why."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return line


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Send a signal; the exit code and what stood on stderr."""
    try:
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return process.returncode, errors


def nodes(env: Mapping[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(run("nodes", "--json", env=env))["nodes"]
    return found
