"""Tasks do not get at the key of their node, and a worker's key is of little use to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import manyhands
from harness.cluster.bench import joined
from harness.cluster.keyed import Keyed
from harness.command import COMMAND, fails, run
from harness.processes import import_path
from manyhands_shared import shm
from manyhands_worker.host import key_hiding

pytestmark = pytest.mark.skipif(not shm.AVAILABLE, reason="needs Linux")
hidden = pytest.mark.skipif(
    os.geteuid() != 0 or key_hiding._landlock_version() < key_hiding._LANDLOCK,
    reason="needs root and Landlock",
)


def _search(path: str, secret: str) -> list[str]:
    """Where a task finds the secret: by its name, and in what other processes have open."""
    subprocess.run(["umount", path], check=False, capture_output=True)
    places = [Path(path)]
    for process in Path("/proc").glob("[0-9]*"):
        places += [Path(f"{process}/root{path}"), process / "environ", process / "cmdline"]
        try:
            files = [(place, str(place.readlink())) for place in (process / "fd").iterdir()]
        except OSError:
            continue
        places += [place for place, name in files if "memfd:key" in name or path in name]
    found = []
    for place in places:
        try:
            if secret.encode() in place.read_bytes():
                found.append(str(place))
        except OSError:
            continue
    return found


def _secret(file: Path) -> str:
    secret = file.read_text().split(":")[3]
    assert len(secret) == 64
    return secret


def _admin(keyed: Keyed) -> manyhands.Client:
    return keyed.bench.stack.enter_context(
        manyhands.Client(keyed.broker.address, key_file=keyed.cluster_file)
    )


@hidden
def test_a_task_does_not_find_the_key_of_its_node(keyed: Keyed) -> None:
    file = keyed.key("mill", "worker")
    keyed.node(file)
    joined(_admin(keyed), 1)
    executor = keyed.bench.executor(keyed.broker.address, key_file=keyed.cluster_file)
    assert executor.submit(_search, str(file), _secret(file)).result(100) == []
    assert file.read_text(), "others have it as before"


@hidden
def test_nor_one_that_came_over_stdin(keyed: Keyed, tmp_path: Path) -> None:
    """As a service manager gives it, that opens what the node's user may not."""
    file = keyed.key("mill", "worker")
    command = [
        *COMMAND,
        "worker",
        "--broker",
        keyed.broker.address,
        "--slots",
        "1",
        "--key-file",
        "-",
    ]
    with file.open("rb") as stdin, (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, **import_path()}
        node = subprocess.Popen(command, stdin=stdin, stderr=log, env=environment)
    try:
        joined(_admin(keyed), 1)
        executor = keyed.bench.executor(keyed.broker.address, key_file=keyed.cluster_file)
        secret = _secret(file)
        file.unlink()
        assert executor.submit(_search, str(file), secret).result(100) == []
    finally:
        node.terminate()
        node.wait(60)


@hidden
def test_nor_does_an_environment_or_what_makes_it(
    keyed: Keyed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = keyed.key("mill", "worker"), tmp_path / "seen"
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(
        f"#!/bin/sh\ncat {file} >> {seen}\n"
        f'if [ "$1" = venv ]; then exec {sys.executable} -I -m venv --without-pip "$5"; fi\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:{os.environ['PATH']}")
    keyed.node(file, environments_dir=str(tmp_path / "environments"))
    executor = keyed.bench.executor(
        keyed.broker.address,
        key_file=keyed.cluster_file,
        environment=manyhands.Requirements("nothing"),
    )
    assert executor.submit(_search, str(file), _secret(file)).result(60) == []
    assert seen.read_text() == ""


_APART = """
import os, sys
from pathlib import Path
from manyhands_worker.host import key_hiding
key, other = map(Path, sys.argv[1:])
os.setgid(65534)
os.setuid(65534)
assert "secret" in key.read_text()
print(key_hiding.can_hide(str(key)), key_hiding.hide(str(key)))
for path in (key, other):
    try:
        print(path.read_text())
    except OSError as error:
        print(error.strerror)
Path(sys.argv[2] + ".a").write_text("new")
os.mkdir(sys.argv[2] + ".d")
os.rename(sys.argv[2] + ".a", sys.argv[2] + ".d/b")
print(Path(sys.argv[2] + ".d/b").read_text())
"""


@hidden
def test_a_directory_of_keys_is_kept_from_what_is_no_root(tmp_path: Path) -> None:
    """As in a container."""
    keys = Path(f"/manyhands-test-{os.getpid()}")
    keys.mkdir()
    try:
        (keys / "node.key").write_text("secret")
        os.chown(keys / "node.key", 65534, 65534)
        (keys / "node.key").chmod(0o600)
        public = Path(f"/tmp/manyhands-test-{os.getpid()}")
        public.mkdir(mode=0o755)
        os.chown(public, 65534, 65534)
        (public / "other").write_text("other")
        command = [sys.executable, "-c", _APART, str(keys / "node.key"), str(public / "other")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "True True\nPermission denied\nother\nnew\n", done.stderr
        (keys / "notes.txt").write_text("another program's")
        assert not key_hiding._is_apart(str(keys / "node.key"))
    finally:
        subprocess.run(["rm", "-rf", str(keys), f"/tmp/manyhands-test-{os.getpid()}"], check=True)


def test_no_other_place_counts_as_a_directory_of_keys(tmp_path: Path) -> None:
    (tmp_path / "node.key").write_text("")
    assert not key_hiding._is_apart(str(tmp_path / "node.key"))
    assert not key_hiding._is_apart("/tmp/node.key")
    assert not key_hiding._is_apart("/node.key")
    assert not key_hiding._is_apart("/etc/hosts")


def test_health_is_told_by_a_nodes_own_key(keyed: Keyed) -> None:
    """Which may ask the broker nothing: a container of a node has no other."""
    file = keyed.key("mill", "worker")
    options = ["health", "--node", "--broker", keyed.broker.address, "--connect-timeout", "100"]
    assert "no node of this host" in fails(run(*options, "--key-file", file), 1)
    keyed.node(file)
    joined(_admin(keyed), 1)
    done = run(*options, "--key-file", file)
    assert done.returncode == 0, done.stderr
    assert "admits this key" in done.stdout
    stranger = keyed.key("stranger", "worker", allow=False)
    assert "does not accept this key" in fails(run(*options, "--key-file", stranger), 4)
    keyed.broker.kill()
    options[-1] = "0.5"
    assert "no broker answers" in fails(run(*options, "--key-file", file), 3)
