"""Data files, variables and a working directory that a job brings to its tasks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import manyhands
from harness.cluster.bench import Bench
from harness.processes import eventually
from manyhands_shared.errors import ConfigError, RemoteError

BOUND = 110.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker and a node that runs in another directory."""
    bench = Bench(tmp_path_factory.mktemp("around"))
    with bench.stack:
        broker = bench.broker()
        bench.node(broker.address, "elsewhere", slots=2)
        yield broker.address


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with files, in which this process is."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "a.csv").write_text("1,2")
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho ran $GREETING")
    (tmp_path / "run.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(path: str) -> str:
    return Path(path).read_text()


def world(name: str) -> tuple[str, str | None]:
    return str(Path.cwd()), os.environ.get(name)


def output(command: str) -> str:
    with os.popen(command) as pipe:
        return pipe.read()


def by_executor(address: str, **options: Any) -> Any:
    return manyhands.Executor(address=address, **options)


@contextlib.contextmanager
def by_options(address: str, **options: Any) -> Iterator[Any]:
    with manyhands.Executor(address=address) as executor:
        # A child without any of it has run something.
        assert executor.submit(world, "GREETING").result(BOUND)[1] is None
        yield executor.with_options(**options)


def call(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
    return executor.submit(function, *args).result(BOUND)


@pytest.mark.parametrize("make", [by_executor, by_options])
def test_tasks_find_files_and_variables(address: str, folder: Path, make: Any) -> None:
    options = {"files": ["data", "run.sh"], "environment": {"GREETING": "hello"}}
    with make(address, **options) as executor:
        assert call(executor, read, "data/deep/a.csv") == "1,2"
        assert call(executor, output, "./run.sh") == "ran hello\n"
        # A changed file is another one for tasks that are submitted a few milliseconds later.
        (folder / "data" / "deep" / "a.csv").write_text("3")
        eventually(lambda: call(executor, read, "data/deep/a.csv") == "3")
        (folder / "data" / "b.csv").write_text("new")
        eventually(lambda: "b.csv" in call(executor, os.listdir, "data"))
        assert call(executor, read, "data/b.csv") == "new"
    with manyhands.Executor(address=address) as plain:
        where, greeting = call(plain, world, "GREETING")
        assert greeting is None
        assert not where.startswith(str(folder))


def test_a_pool_brings_them_too(address: str, folder: Path) -> None:
    files = {"named/elsewhere.csv": str(folder / "data" / "deep" / "a.csv")}
    with manyhands.Pool(address=address, files=files, environment={"GREETING": "x"}) as pool:
        assert pool.map(read, ["named/elsewhere.csv"] * 4) == ["1,2"] * 4
        assert pool.apply(world, ("GREETING",))[1] == "x"


def test_a_job_of_a_client_brings_them_too(address: str, folder: Path) -> None:
    with manyhands.Client(address) as client:
        job = client.submit_job(read, [("a.csv",)], files=[folder / "data" / "deep" / "a.csv"])
        assert list(job) == [(0, "1,2")]


def test_tasks_run_in_a_directory_of_the_node(address: str, tmp_path: Path) -> None:
    with manyhands.Executor(address=address, working_dir=tmp_path) as executor:
        assert call(executor, world, "GREETING")[0] == str(tmp_path)
        missing = executor.with_options(working_dir=tmp_path / "nowhere")
        with pytest.raises(RemoteError, match=r"directory .*nowhere cannot be used on"):
            call(missing, world, "GREETING")
        assert call(executor, world, "GREETING")[0] == str(tmp_path)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"files": ["nowhere.csv"]}, "'nowhere.csv', which is not there"),
        ({"files": 7}, "files takes paths"),
        ({"files": ["run.sh"], "working_dir": "/"}, "leave out working_dir"),
        ({"environment": {"A": 1}}, "names and values are texts"),
        ({"environment": ["A=1"]}, "a mapping of names"),
        ({"environment": {"A=B": "1"}}, "the variable 'A=B'"),
        ({"environment": {"MANYHANDS_BROKER": "x"}}, "MANYHANDS_BROKER"),
        ({"environment": {"A": "1"}, "safe": True}, "a safe job"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    address: str, folder: Path, options: dict[str, Any], why: str
) -> None:
    del folder
    with (
        manyhands.Executor(address=address) as executor,
        pytest.raises(ConfigError, match=why),
    ):
        executor.with_options(**options)


def test_what_is_gone_or_too_large_fails_the_call(
    address: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with manyhands.Executor(address=address, files=["run.sh"]) as executor:
        (folder / "run.sh").unlink()
        with pytest.raises(manyhands.SubmitError, match=r"run\.sh of the tasks cannot be read"):
            call(executor, read, "run.sh")
    monkeypatch.setattr("manyhands_shared.payloads.bundle.MAX_BYTES", 100_000)
    (folder / "large.bin").write_bytes(bytes(200_000))
    with (
        manyhands.Executor(address=address, files=["large.bin"]) as executor,
        pytest.raises(manyhands.SubmitError, match=r"large\.bin \(195 KiB\).* as arguments"),
    ):
        call(executor, read, "large.bin")
