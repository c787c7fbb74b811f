"""`hash(str)` is the same in all tasks of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import manyhands
from harness.command import running
from harness.processes import free_port
from manyhands_shared.processes import hash_seed
from manyhands_shared.security.cluster_key import ClusterKey

BOUND = 110.0


def look(_: int) -> tuple[int, str | None, int]:
    return hash("word"), os.environ.get("PYTHONHASHSEED"), os.getpid()


def seen(address: str) -> list[tuple[int, str | None]]:
    """What tasks of two children see, at the least."""
    with manyhands.Pool(address=address) as pool:
        found: dict[int, tuple[int, str | None]] = {}
        while len(found) < 2:
            for text, variable, pid in pool.map(look, range(20), chunksize=1):
                found[pid] = text, variable
    return list(found.values())


def test_nodes_of_one_cluster_have_one_seed_and_tasks_do_not_see_it() -> None:
    with manyhands.LocalCluster(nodes=2) as first, manyhands.LocalCluster(nodes=2) as second:
        [one] = set(seen(first.address))
        [other] = set(seen(second.address))
    assert one[1] is other[1] is None
    assert one[0] != other[0], "no other process can tell it beforehand"


def test_programs_that_tasks_start_are_seeded_as_those_of_a_script() -> None:
    def program() -> str:
        command = [sys.executable, "-c", "print(hash('word'))"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with (
        manyhands.LocalCluster(nodes=1) as cluster,
        manyhands.Pool(address=cluster.address) as pool,
    ):
        assert pool.apply(program) != pool.apply(program)


@pytest.mark.parametrize("seed", ["0", "7"])
def test_what_the_user_has_set_for_python_holds(seed: str) -> None:
    script = """
import os
import manyhands
def look():
    return hash("word"), os.environ["PYTHONHASHSEED"]
with manyhands.Pool(1) as pool:
    print(pool.apply(look) == look())
with manyhands.LocalCluster(nodes=1) as cluster, manyhands.Pool(address=cluster.address) as pool:
    print(pool.apply(look) == look())
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=True,
    )
    assert ended.stdout == "True\nTrue\n"


def test_nodes_that_join_are_told_and_a_keyed_broker_says_the_same_again(tmp_path: Path) -> None:
    def look_there(
        _: int,
    ) -> tuple[int, str | None, int]:  # by value: the nodes have not this module
        return hash("word"), os.environ.get("PYTHONHASHSEED"), os.getpid()

    key = str(tmp_path / "cluster.key")
    ClusterKey.new().save(Path(key))
    address = f"tcp://127.0.0.1:{free_port()}"
    found = set()
    for _ in range(2):
        with ExitStack() as stack:
            stack.enter_context(running("broker", "--bind", address, "--key-file", key))
            for name in ("a", "b"):
                options = ("--broker", address, "--key-file", key, "--slots", "1", "--name", name)
                stack.enter_context(running("worker", *options))
            with manyhands.Pool(address=address, key_file=key, connect_timeout=100) as pool:
                pids: set[int] = set()
                while len(pids) < 2:
                    for text, variable, pid in pool.map(look_there, range(20), chunksize=1):
                        found.add((text, variable))
                        pids.add(pid)
    assert len(found) == 1


def test_seeds_follow_from_the_key_and_from_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    key = ClusterKey(bytes(range(32)))
    seeds = {hash_seed.choose(key.secret_for(b"hash seed")) for _ in range(3)}
    assert len(seeds) == 1
    assert hash_seed.choose(ClusterKey.new().secret_for(b"hash seed")) not in seeds
    assert len({hash_seed.choose() for _ in range(9)}) > 1
    assert 0 < seeds.pop() < 1 << 32
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert hash_seed.choose(bytes(32)) == 0
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    assert hash_seed.choose() > 0
