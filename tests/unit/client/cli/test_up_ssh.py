"""`manyhands up --ssh`: with an ssh that runs what it is told on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from harness.command import COMMAND, ended, fails, first_line, nodes, run, start
from harness.processes import eventually, has_ended

#: One `manyhands up` at a time has the port that it takes if none is named.
pytestmark = pytest.mark.xdist_group("usual port")

#: Notes its arguments, and does what sshd does: hand the line to a shell, with the client's address.
SSH = """#!/bin/sh
printf '%s\\n' "$@" >> {log}
for last; do :; done
[ "$5" = -o ] && shift
case "$*" in *unreachable*) echo 'ssh: no route to host' >&2; exit 255;; esac
unset MANYHANDS_KEY_FILE
SSH_CONNECTION='127.0.0.1 50000 127.0.0.1 22' exec sh -c "$last"
"""


@pytest.fixture
def hosts(tmp_path: Path) -> dict[str, str]:
    """The environment in which `ssh` is ours."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "ssh").write_text(SSH.format(log=tmp_path / "ssh.log"))
    (binaries / "manyhands").write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    for file in binaries.iterdir():
        file.chmod(0o755)
    assert sys.executable in (binaries / "manyhands").read_text()
    return {"PATH": f"{binaries}:{os.environ['PATH']}"}


def test_nodes_elsewhere_join_work_and_end_with_it(hosts: dict[str, str], tmp_path: Path) -> None:
    up = start("up", "--ssh", "one,user@two,unreachable", "--slots", "1", "--json", env=hosts)
    try:
        told = json.loads(first_line(up))
        assert told["nodes"] == ["one", "two", "unreachable"]
        environment = {"MANYHANDS_BROKER": told["address"], "MANYHANDS_KEY_FILE": told["key_file"]}
        secret = Path(told["key_file"]).read_text().strip()
        assert Path(told["key_file"]).stat().st_mode & 0o777 == 0o600
        eventually(
            lambda: sorted(node["name"] for node in nodes(env=environment)) == ["one", "two"]
        )
        pids = [node["pid"] for node in nodes(env=environment)]
        # What those hosts have been given lets them work, and nothing else.
        allowed = Path(f"{told['key_file']}.allowed").read_text()
        [(_, role, name)] = [line.split() for line in allowed.splitlines() if line[0] != "#"]
        assert role == "worker"
        assert {node["key"] for node in nodes(env=environment)} == {name}
        assert run("run", "math:sqrt", "9", env=environment).stdout == "3.0\n"
        # The key is in no argument, neither here nor there.
        assert secret not in (tmp_path / "ssh.log").read_text()
        for process in psutil.process_iter(["cmdline"]):
            assert secret not in " ".join(process.info["cmdline"] or [])
    finally:
        code, errors = ended(up, signal.SIGTERM)
    assert code == 0, errors
    assert "node unreachable ended with exit code 255" in errors
    assert "Traceback" not in errors
    assert all(map(has_ended, pids))
    assert not Path(told["key_file"]).exists()


def test_nodes_elsewhere_leave_when_it_is_killed(hosts: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    arguments = ("--ssh", "one", "--slots", "1", "--json", "--key-file", key)
    up = start("up", *arguments, "--listen", "127.0.0.1", "--advertise", "127.0.0.1", env=hosts)
    try:
        told = json.loads(first_line(up))
        environment = {"MANYHANDS_BROKER": told["address"], "MANYHANDS_KEY_FILE": str(key)}
        [node] = eventually(lambda: nodes(env=environment))
    finally:
        up.kill()
        up.communicate(timeout=120)
    eventually(lambda: has_ended(node["pid"]))
    assert key.exists()


def test_the_key_of_a_run_is_taken_back(hosts: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    up = start("up", "--ssh", "one", "--slots", "1", "--json", "--key-file", key, env=hosts)
    try:
        first_line(up)
        allowed = tmp_path / "cluster.key.allowed"
        assert " worker up-" in allowed.read_text()
    finally:
        code, errors = ended(up, signal.SIGINT)
    assert code == 0, errors
    assert " worker " not in allowed.read_text()


def test_a_fixed_port_and_only_bad_hosts(hosts: dict[str, str], tmp_path: Path) -> None:
    assert "--ssh names no host" in fails(run("up", "--ssh", ",", env=hosts), 2)
    assert "is no host for --ssh" in fails(run("up", "--ssh", "-oProxyCommand=x", env=hosts), 2)
    result = run("up", "--ssh", "unreachable", env=hosts)
    assert "no node is left" in fails(result, 1)
    empty = {"PATH": str(tmp_path)}
    assert "cannot start ssh to one" in fails(run("up", "--ssh", "one", env=empty), 2)


def test_everybody_is_let_in_only_with_a_key() -> None:
    result = run("up", "--listen", "0.0.0.0", "--nodes", "0")
    assert "Make a key" in result.stderr
    assert result.returncode != 0
    assert "Traceback" not in result.stderr


def test_a_key_over_stdin_that_is_none() -> None:
    for text in ("", "\n\n"):
        result = run("worker", "--key-file", "-", stdin=text)
        assert "no key came over stdin" in fails(result, 2)
    result = run("worker", "--key-file", "-", stdin="something else\n\n")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
