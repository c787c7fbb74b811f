"""Jobs with requirements: nodes install these in environments of their own, and run the tasks there."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import manyhands
from harness.cluster.bench import Bench
from harness.cluster.parts import Node
from harness.command import run
from harness.processes import eventually, has_ended
from manyhands import Requirements
from manyhands_shared.errors import EnvironmentFailed
from manyhands_worker.environments import directory

BOUND = 100.0
UV = shutil.which("uv")
#: Installs half a package, says so, and waits for ever.
STUCK = """#!/bin/sh
if [ "$1" = venv ]; then exec {python} -I -m venv --without-pip "$5"; fi
for site in "$(dirname "$(dirname "$4")")"/lib/*/site-packages; do echo "x = (" > "$site/sums.py"; done
echo $$ > {said}.draft; mv {said}.draft {said}
exec sleep 1000
"""


def wheel(folder: Path, name: str, version: str, code: str) -> None:
    """Make a wheel of one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            lines.append(f"{path},sha256={digest.decode().rstrip('=')},{len(text.encode())}")
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]))


class Place(NamedTuple):
    """A cluster, and where its nodes find packages and put environments."""

    address: str
    wheels: Path
    environments: Path

    def requirements(self, *packages: str, **options: Any) -> Requirements:
        return Requirements(*packages, find_links=[self.wheels], no_index=True, **options)

    def node(self, bench: Bench, address: str, name: str, **config: Any) -> Node:
        return bench.node(address, name, environments_dir=str(self.environments), **config)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A broker and two nodes of one host; nodes have no uv."""
    folder = tmp_path_factory.mktemp("requirements")
    (folder / "wheels").mkdir()
    for version in ("1.0", "2.0"):
        wheel(folder / "wheels", "sums", version, f"VERSION = {version!r}\n")
    bench = Bench(folder)
    with bench.stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/usr/bin:/bin")
        assert shutil.which("uv") is None
        made = Place(bench.broker().address, folder / "wheels", folder / "environments")
        for name in ("a", "b"):
            made.node(bench, made.address, name, slots=2)
        yield made


def sums_version(_: int = 0) -> tuple[str, str, str | None]:
    import sums  # type: ignore[import-not-found]

    return sums.VERSION, sys.prefix, os.environ.get("UNIT")


def test_two_versions_run_at_once(place: Place) -> None:
    old = place.requirements("sums==1.0", variables={"UNIT": "m"})
    new = place.requirements("sums==2.0")
    with (
        manyhands.Executor(address=place.address, environment=old) as first,
        manyhands.Pool(address=place.address, environment=new) as second,
    ):
        futures = [first.submit(sums_version) for _ in range(20)]
        results = second.map(sums_version, range(20), chunksize=1)
        found = {future.result(BOUND) for future in futures}
        assert {version for version, _, _ in found} == {"1.0"}
        assert {unit for _, _, unit in found} == {"m"}
        assert {version for version, _, _ in results} == {"2.0"}
        # Two nodes of one host share each.
        assert len({prefix for _, prefix, _ in found}) == 1
    with manyhands.Executor(address=place.address) as plain, pytest.raises(ModuleNotFoundError):
        plain.submit(sums_version).result(BOUND)


def test_what_a_node_cannot_install_fails_the_task(place: Place) -> None:
    broken = place.requirements("sums==9.9")
    with manyhands.Executor(address=place.address, environment=broken) as executor:
        with pytest.raises(EnvironmentFailed) as caught:
            executor.submit(sums_version).result(BOUND)
        told = str(caught.value)
        assert told.startswith("node ")
        assert "cannot make the environment that the tasks require: pip install failed" in told
        assert "sums==9.9" in told.partition("\n")[2]
        # Tasks without it run there.
        assert executor.with_options(environment={}).submit(abs, -1).result(BOUND) == 1


def test_tasks_go_elsewhere_where_a_node_cannot_make_it(
    place: Place, bench: Bench, tmp_path: Path
) -> None:
    address = bench.broker().address
    (tmp_path / "file").touch()
    bench.node(address, "unable", environments_dir=str(tmp_path / "file" / "environments"), slots=2)
    place.node(bench, address, "able", slots=2)
    wanted = place.requirements("sums==1.0")
    with manyhands.Client(address) as client:
        eventually(lambda: len(client.query("nodes")) == 2, BOUND)
        calls = [(number,) for number in range(40)]
        job = client.submit_job(sums_version, calls, environment=wanted)
        assert [version for _, (version, _, _) in sorted(job)] == ["1.0"] * 40
        nodes = {node["name"]: node for node in client.query("nodes")}
        assert nodes["able"]["done"] == 40
        # It had its part of them.
        assert nodes["unable"]["done"] >= 1


def test_the_command_takes_packages(place: Place, tmp_path: Path) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text(f"--no-index\n--find-links {place.wheels}\n")
    (tmp_path / "work.py").write_text(
        "import os\ndef version():\n    import sums\n    return sums.VERSION, os.environ['UNIT']\n"
    )
    options = ["--with", "sums==2.0", "--with-requirements", str(listed), "--env", "UNIT=m"]
    done = run("run", "work:version", "--broker", place.address, *options, cwd=tmp_path)
    assert done.stdout == "('2.0', 'm')\n", done


def test_nodes_that_refuse_get_no_such_task(place: Place, bench: Bench) -> None:
    address = bench.broker().address
    place.node(bench, address, "safe", safe="math:*")
    place.node(bench, address, "refusing", environments=False)
    with manyhands.Client(address) as client:
        job = client.submit_job(abs, [(-1,)], environment=place.requirements("sums==1.0"))
        eventually(lambda: len(client.query("nodes")) == 2, BOUND)
        [why] = job.why()
        assert why.startswith(
            "no node makes the environment that its tasks require: each is a safe one, or was "
            "started with --no-environments"
        )
        # One that makes them takes the job.
        place.node(bench, address, "willing")
        assert list(job) == [(0, 1)]


def test_a_killed_node_leaves_no_torn_environment(
    place: Place, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(STUCK.format(python=sys.executable, said=said))
    uv.chmod(0o755)
    address = bench.broker().address
    # Not made yet: it has another name.
    wanted = place.requirements("sums<2")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{uv.parent}:/usr/bin:/bin")
        node = place.node(bench, address, "killed")
    with manyhands.Executor(address=address, environment=wanted) as executor:
        future = executor.submit(sums_version)
        eventually(said.exists, BOUND)
        [torn] = [
            found.parents[3]
            for found in place.environments.glob("*/lib/*/site-packages/sums.py")
            if found.read_text() == "x = (\n"
        ]
        assert directory.read_mark(torn) is None
        node.kill()
        # Nothing of the installer outlives the node.
        eventually(lambda: has_ended(int(said.read_text())), BOUND)
        place.node(bench, address, "next")
        version, prefix, _ = future.result(BOUND)
        assert (version, prefix) == ("1.0", str(torn))
        assert directory.read_mark(torn) is not None


@pytest.mark.skipif(UV is None, reason="uv is not installed")
def test_uv_makes_them_where_it_is(
    place: Place, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert UV is not None
    address = bench.broker().address
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{Path(UV).parent}:/usr/bin:/bin")
        patch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        bench.node(address, "quick", environments_dir=str(tmp_path / "environments"))
    wanted = place.requirements("sums==2.0")
    with manyhands.Executor(address=address, environment=wanted) as executor:
        version, prefix, _ = executor.submit(sums_version).result(BOUND)
    assert version == "2.0"
    assert "uv = " in (Path(prefix) / "pyvenv.cfg").read_text()
