"""Modules of the user's own: nodes that lack them get them, and no task runs another version of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cluster.bench import Bench
from harness.cluster.parts import Broker
from harness.processes import eventually, without_waits
from manyhands_shared.security.cluster_key import ClusterKey

BOUND = 110.0
HELPER = """
import os, time
VERSION = {version}
class Box:
    def __init__(self, value):
        self.value = value
def f(x):
    return VERSION, x
def opened(box):
    return VERSION, Box(box.value + 1)
def wait(gate):
    while not os.path.exists(gate):
        time.sleep(0.005)
    return VERSION
"""


class Cluster:
    """A keyed broker and a node of two slots, which find no module of a script."""

    def __init__(self, bench: Bench) -> None:
        self.key = bench.folder / "cluster.key"
        ClusterKey.new().save(self.key)
        self.broker: Broker = bench.broker(
            key_file=str(self.key), journal=str(bench.folder / "journal")
        )
        bench.node(self.broker.address, "elsewhere", slots=2, key_file=str(self.key))
        self.environment = {
            "MANYHANDS_BROKER": self.broker.address,
            "MANYHANDS_KEY_FILE": str(self.key),
        }


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    bench = Bench(tmp_path_factory.mktemp("keyed"))
    with bench.stack:
        yield Cluster(bench)


class Project:
    """A folder with a script and its modules."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = {**os.environ, **(environment or {})}

    def write(self, name: str, text: str) -> Path:
        """Write one file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Run a script of these lines."""
        path = self.write("script.py", script)
        return subprocess.Popen(
            [sys.executable, str(path), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str) -> list[str]:
        """Return the lines that it prints."""
        return lines_of(self.start(script, *arguments))


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    """Return what a script has printed, which must have gone well."""
    try:
        out, err = process.communicate(timeout=BOUND)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, without_waits(err)) == (0, ""), err
    return out.splitlines()


MAP = """
import helper, manyhands
with {cluster} as here, manyhands.Pool(2{address}) as pool:
    print(pool.map(helper.f, range(2)))
    print(vars(pool.apply(helper.opened, (helper.Box(1),))[1]))
"""


@pytest.mark.parametrize(
    ("cluster", "address"),
    [
        ("open('helper.py')", ""),
        ("manyhands.LocalCluster(nodes=1)", ", address=here.address"),
    ],
    ids=["own", "local"],
)
def test_module_beside_a_script_is_there_with_clusters_of_this_machine(
    tmp_path: Path, cluster: str, address: str
) -> None:
    project = Project(tmp_path)
    project.write("helper.py", HELPER.format(version=1))
    found = project.run(MAP.format(cluster=cluster, address=address))
    assert found == ["[(1, 0), (1, 1)]", "{'value': 2}"]


def test_modules_travel_to_a_node_elsewhere(tmp_path: Path, keyed: Cluster) -> None:
    project = Project(tmp_path, keyed.environment)
    project.write("helper.py", HELPER.format(version=1))
    project.write("package/__init__.py", "from . import inner\n")
    project.write("package/inner.py", "def g():\n    from package.late import V\n    return V\n")
    project.write("package/late.py", "V = 'late'\n")
    project.write("later.py", "V = 'later'\n")
    found = project.run(
        """
        import helper, package, manyhands
        def of_the_script():
            import later
            return later.V, helper.VERSION
        with manyhands.Pool(2) as pool:
            print(pool.map(helper.f, range(2)))
            print(vars(pool.apply(helper.opened, (helper.Box(1),))[1]))
            print(pool.apply(package.inner.g))
            print(pool.apply(of_the_script))
        """
    )
    assert found == ["[(1, 0), (1, 1)]", "{'value': 2}", "late", "('later', 1)"]


def test_each_task_runs_the_code_of_its_submission(tmp_path: Path, keyed: Cluster) -> None:
    project = Project(tmp_path, keyed.environment)
    project.write("helper.py", HELPER.format(version=0))
    found = project.run(
        """
        import importlib, pathlib, sys, manyhands, helper
        gate, text = pathlib.Path("gate"), pathlib.Path("helper.py").read_text()
        ended = []
        with manyhands.Executor() as pool:
            for version in range(20):
                now = text.replace("VERSION = 0", f"VERSION = {version}")
                pathlib.Path("helper.py").write_text(now)
                importlib.reload(helper)
                ended += [(version, pool.submit(helper.wait, str(gate.absolute()))) for _ in "ab"]
            gate.touch()
            print([(version, task.result(60)) for version, task in ended if version != task.result()])
            print(len(ended))
        """
    )
    assert found == ["[]", "40"]


@pytest.mark.parametrize(
    "call",
    [
        "pool.submit(helper.f, 1).result()",
        "pool.with_options(environment={'A': 'b'}).submit(helper.f, 1).result()",
        "next(pool.map(helper.f, [1]))",
        "client.submit_job(helper.f, [(1,)]).results()[0]",
    ],
)
def test_module_that_is_loaded_again_at_once_travels_as_it_is(
    tmp_path: Path, call: str, keyed: Cluster
) -> None:
    # As on a machine so quick that no time goes by between two looks at the files.
    project = Project(tmp_path, keyed.environment)
    project.write("helper.py", HELPER.format(version=1))
    found = project.run(
        f"""
        import importlib, os, pathlib, manyhands, helper
        from manyhands._code import program, surroundings
        program.PAUSE_SECONDS = surroundings.PAUSE_SECONDS = 3_600.0
        with manyhands.Executor() as pool, manyhands.Client() as client:
            # Calls that bring no new modules of ours with them.
            print([{call} for _ in range(3)][-1])
            text = pathlib.Path("helper.py").read_text()
            pathlib.Path("helper.py").write_text(text.replace("VERSION = 1", "VERSION = 2"))
            importlib.reload(helper)
            print({call})
        """
    )
    assert found == ["(1, 1)", "(2, 1)"]


def test_run_of_an_edited_module_beside_one_of_the_old(tmp_path: Path, keyed: Cluster) -> None:
    project = Project(tmp_path, keyed.environment)
    script = """
    import helper, manyhands, sys, pathlib
    with manyhands.Executor() as pool:
        tasks = [pool.submit(helper.wait, str(pathlib.Path(sys.argv[1]).absolute())) for _ in range(3)]
        while not (sys.argv[1] == "open" or any(task.running() for task in tasks)):
            pass
        pathlib.Path(sys.argv[2]).touch()
        print([task.result(60) for task in tasks])
    """
    script = script.replace("any(task.running() for task in tasks)", "tasks")
    project.write("helper.py", HELPER.format(version=1))
    old = project.start(script, "gate", "submitted")
    eventually((tmp_path / "submitted").exists, BOUND, what="tasks submitted")
    project.write("helper.py", HELPER.format(version=2))
    new = project.start(script, "gate", "again")
    eventually((tmp_path / "again").exists, BOUND, what="tasks submitted again")
    (tmp_path / "gate").touch()
    assert lines_of(old) == ["[1, 1, 1]"]
    assert lines_of(new) == ["[2, 2, 2]"]


def test_durable_job_has_its_modules_after_a_restart_of_the_broker(
    tmp_path: Path, bench: Bench
) -> None:
    keyed = Cluster(bench)
    project = Project(tmp_path, keyed.environment)
    project.write("helper.py", HELPER.format(version=7))
    [job] = project.run(
        """
        import helper, manyhands, os
        with manyhands.Client() as client:
            gate = os.path.abspath("gate")
            print(client.submit_job(helper.wait, [(gate,)] * 4, durable=True).id)
        """
    )
    project.write("helper.py", HELPER.format(version=8))
    keyed.broker.kill()
    keyed.broker.start()
    (tmp_path / "gate").touch()
    found = project.run(
        f"""
        import manyhands
        with manyhands.Client() as client:
            job = client.attach({job!r})
            print(job.wait(60), list(job.results()))
        """
    )
    assert found == ["True [7, 7, 7, 7]"]


def test_data_beside_a_module_is_found_on_the_same_machine(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("helper.py", "import pathlib\ndef f():\n    return (HERE / 'data').read_text()\n")
    with (tmp_path / "helper.py").open("a") as file:
        file.write("HERE = pathlib.Path(__file__).parent\n")
    project.write("data", "beside")
    script = "import helper, manyhands\nwith manyhands.Pool(1) as pool:\n    "
    assert project.run(f"{script}print(pool.apply(helper.f))") == ["beside"]


def test_command_line_takes_the_modules_along(tmp_path: Path, keyed: Cluster) -> None:
    project = Project(tmp_path, keyed.environment)
    project.write("helper.py", HELPER.format(version=1))
    project.write("work.py", "import helper\ndef f(x):\n    return helper.f(x)\n")
    command = [sys.executable, "-m", "manyhands.cli", "run", "work:f", "3"]
    ended = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert (ended.stdout.strip(), without_waits(ended.stderr)) == ("(1, 3)", "")


def test_a_missing_distribution_is_named_with_its_version(tmp_path: Path, keyed: Cluster) -> None:
    site = tmp_path / "lib" / "site-packages"
    project = Project(site, keyed.environment)
    project.write("oddly/__init__.py", "ODD = 1")
    project.write("oddly_named-4.2.dist-info/METADATA", "Name: oddly-named\nVersion: 4.2\n")
    project.write("oddly_named-4.2.dist-info/RECORD", "oddly/__init__.py,,\n")
    project.folder = tmp_path
    script = f"""
import sys
sys.path.append({str(site)!r})
import manyhands, oddly
def f(name):
    return __import__(name).ODD
def g():
    return oddly.ODD
with manyhands.Executor() as executor:
    print(*executor.submit(g).exception().__notes__)
    for name in "oddly", "in_no_distribution":
        error = executor.submit(f, name).exception()
        print(type(error).__name__, getattr(error, "__notes__", []))
"""
    note = (
        "oddly is not installed where the task ran, and this client has oddly-named 4.2: "
        "run `pip install oddly-named==4.2` on the nodes"
    )
    assert project.run(script) == [
        note,
        f"ModuleNotFoundError {[note]}",
        "ModuleNotFoundError []",
    ]
