"""The cluster of a command starts beside the command's own imports, and ends with it in any case."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import psutil
import pytest

from harness.processes import eventually, has_ended
from manyhands import Client
from manyhands._local import subprocesses
from manyhands.cli import _announced, _connect, _early_start
from manyhands_shared.errors import ConfigError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster of this user is found."""
    monkeypatch.setattr(_announced, "find", lambda: None)


def test_a_cluster_that_has_begun_is_the_one_that_is_used() -> None:
    begun = _early_start.begin_cluster(None, 1)
    assert begun is not None
    with contextlib.closing(begun), _connect.client(embed=True, begun=begun) as client:
        assert client.address == begun.address
        assert isinstance(client, Client)
        assert client.submit_job(int, [("7",)]).wait(60)
    assert has_ended(begun.pid)


def test_a_cluster_that_has_begun_ends_with_a_command_that_fails() -> None:
    before = {child.pid for child in psutil.Process().children()}
    with (
        pytest.raises(ConfigError, match="connect_timeout"),
        _connect.client(embed=True, slots=1, connect_timeout="never"),
    ):
        pass
    eventually(lambda: {child.pid for child in psutil.Process().children()} <= before, timeout=60)


def test_a_named_broker_needs_no_cluster() -> None:
    assert _early_start.begin_cluster("tcp://127.0.0.1:1", 1) is None


def test_the_client_is_imported_when_the_cluster_has_begun() -> None:
    """Else the two wait for each other: a few hundred milliseconds."""
    code = "import sys; from manyhands.cli._programs import running; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "manyhands._local.embedded" in loaded
    late = {"manyhands._io.io_thread", "manyhands_shared.protocol.messages", "multiprocessing"}
    assert not late & loaded


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system has no pidfd")
def test_the_end_of_a_process_is_waited_for_without_a_pause() -> None:
    with subprocess.Popen(["true"]) as process:
        subprocesses._sleep_until_end(process.pid, 60)
        assert process.poll() == 0
    # It has been waited for already, as by another thread.
    subprocesses._sleep_until_end(process.pid, 60)
