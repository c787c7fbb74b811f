"""compose.yaml with a real engine: a keyed cluster works, and survives the loss of a node."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from compose import Compose

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1_200), pytest.mark.xdist_group("engine")]

#: Primes below the limit that the client's job is given.
LIMIT, PRIMES = 2_000_000, 148_933


@pytest.fixture(scope="module")
def up(cluster: Compose) -> Compose:
    """The cluster with three nodes, all of them ready."""
    cluster.run("up", "-d", "--scale", "worker=3", timeout=300)
    command = ["exec", "-T", "broker", "manyhands", "nodes", "--json"]
    pause = threading.Event()
    for _ in range(60):
        nodes = json.loads(cluster.run(*command, timeout=60))["nodes"]
        if sum(node["state"] == "ready" for node in nodes) == 3:
            return cluster
        pause.wait(1)
    raise AssertionError(f"three nodes are not ready: {nodes}\n{logs(cluster)}")


def logs(cluster: Compose) -> str:
    return cluster.run("logs", "--no-color", "--tail", "40", timeout=60)


def test_a_node_killed_in_mid_job_costs_no_result(up: Compose) -> None:
    victim = up.containers("worker")[0]
    client = up.start("run", "--rm", "-T", "client", "primes.py", str(LIMIT))
    try:
        assert client.stderr is not None
        seen = []
        for line in client.stderr:
            seen.append(line)
            if "pieces" in line:
                break
        assert seen, "the client said nothing"
        assert "pieces" in seen[-1], "".join(seen)
        subprocess.run(["docker", "kill", victim], check=True, capture_output=True, timeout=60)
        out, rest = client.communicate(timeout=300)
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, "".join(seen) + rest + logs(up)
    assert "100 of 100 pieces" in "".join(seen) + rest
    assert f"{PRIMES} primes below {LIMIT}" in out
    assert victim not in up.containers("worker") or _state(victim) != "running"


def test_everybody_is_healthy_and_nobody_is_root(up: Compose) -> None:
    up.run("exec", "-T", "broker", "manyhands", "health", timeout=60)
    worker = next(name for name in up.containers("worker") if _state(name) == "running")
    run = ["docker", "exec", worker]
    subprocess.run([*run, "manyhands", "health", "--node"], check=True, timeout=60)
    user = subprocess.run([*run, "id", "-u"], check=True, capture_output=True, timeout=60)
    assert user.stdout.strip() not in (b"", b"0")


def test_without_the_key_nobody_gets_in(up: Compose) -> None:
    refused = up.start(
        "run",
        "--rm",
        "-T",
        "--entrypoint",
        "env",
        "client",
        "-u",
        "MANYHANDS_KEY_FILE",
        "manyhands",
        "nodes",
        "--connect-timeout",
        "5",
    )
    _, errors = refused.communicate(timeout=120)
    assert refused.returncode in (3, 4)
    assert "error: " in errors
    assert "Traceback" not in errors


def _state(container: str) -> str:
    command = ["docker", "inspect", "--format", "{{.State.Status}}", container]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    ).stdout.strip()
