"""What a shell offers: ids of jobs, names of nodes, modules and functions."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.command import COMMAND, run
from manyhands import Client

if TYPE_CHECKING:
    from manyhands import LocalCluster


def complete(
    line: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None
) -> list[str]:
    """What bash gets for the last of these words."""
    variables = {"COMP_WORDS": "\n".join(line), "COMP_CWORD": str(len(line) - 1)}
    asked = {"_MANYHANDS_COMPLETE": "bash_complete", **variables, **(env or {})}
    result = run(cwd=cwd, env=asked)
    assert result.returncode == 0
    assert "error" not in result.stderr
    return [answer.removeprefix("plain,") for answer in result.stdout.split()]


def test_ids_and_nodes_are_the_broker_s(cluster: LocalCluster, named: dict[str, str]) -> None:
    named["MANYHANDS_CONNECT_TIMEOUT"] = "60"
    with Client(cluster.address) as client:
        job = client.submit_job(int, [("7",)], durable=True)
    assert complete(["manyhands", "show", job.id[:6]], env=named) == [job.id]
    assert job.id in complete(["manyhands", "wait", job.id, ""], env=named)
    options = ["manyhands", "drain", "--broker", cluster.address, ""]
    assert complete(options, env={"MANYHANDS_CONNECT_TIMEOUT": "60"}) == [cluster.nodes[0].name]


def test_without_a_broker_nothing_is_offered_and_nothing_said() -> None:
    assert complete(["manyhands", "show", "--broker", "tcp://127.0.0.1:1", ""]) == []
    assert complete(["manyhands", "show", "--broker", "udp://x", ""]) == []


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with a module and a package, which no completion may import."""
    (tmp_path / "work.py").write_text(
        "import os\ndef score(n): ...\ndef _own(): ...\nraise SystemExit"
    )
    (tmp_path / "broken.py").write_text("def (")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("def whole(): ...")
    (package / "part.py").write_text("def piece(): ...")
    (tmp_path / "data").mkdir()
    return tmp_path


def test_modules_and_functions_of_the_directory(here: Path) -> None:
    def offered(*words: str) -> list[str]:
        return complete(["manyhands", "run", *words], cwd=here)

    assert offered("") == ["broken:", "package:", "work:"]
    assert offered("package.") == ["package.part:"]
    # Bash splits words at a colon, and replaces what is behind it.
    assert offered("work", ":") == ["score"]
    assert offered("work", ":", "sc") == ["score"]
    assert offered("package.part", ":") == ["piece"]
    assert offered("package", ":", "w") == ["whole"]
    assert offered("broken", ":") == []
    assert offered("nothing", ":") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_completes_a_function(here: Path) -> None:
    command = here / "manyhands"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    script = f"""
{run("completion", "bash").stdout}
COMP_WORDS=(manyhands map work : sc) COMP_CWORD=4
_manyhands_completion ./manyhands sc :
printf '<%s>' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout == "<score>", done.stderr
