"""A safe node runs functions on its list alone, on plain values, and loads no pickle at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import manyhands
from harness.cluster.bench import Bench, joined
from harness.cluster.peers import Peers
from harness.processes import eventually
from manyhands_shared.errors import ConfigError, RemoteError, ResultError, SubmitError
from manyhands_shared.payloads import safe as plain
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_worker.child import allowed_functions

ALLOWED = "math:*,operator:add,json:loads,json:dumps,builtins:pow,builtins:range,builtins:divmod"


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.open, (str(self.file), os.O_CREAT)


@pytest.fixture
def broker(bench: Bench) -> str:
    address = bench.broker().address
    bench.node(address, "safe", safe=ALLOWED)
    joined(bench.client(address), 1)
    return address


def test_plain_work_is_done(bench: Bench, broker: str) -> None:
    executor = bench.executor(broker, safe=True)
    assert executor.submit(math.factorial, 20).result(100) == math.factorial(20)
    divided: Any = executor.submit(divmod, 17, 5).result(100)
    assert divided == [3, 2]
    assert list(executor.map(pow, [2, 3], [5, 2], chunksize=2)) == [32, 9]
    # Beyond what rides in a header, both ways.
    job = bench.client(broker).submit_job(json.dumps, [(["a" * 300_000],)], safe=True)
    assert job.results() == [json.dumps(["a" * 300_000])]


def test_exceptions_come_as_stand_ins_that_loaded_nothing(bench: Bench, broker: str) -> None:
    executor = bench.executor(broker, safe=True)
    with pytest.raises(ValueError, match="negative") as caught:
        executor.submit(math.factorial, -1).result(100)
    assert isinstance(caught.value, RemoteError)


def test_what_is_not_on_the_list_is_not_even_imported(bench: Bench, broker: str) -> None:
    executor = bench.executor(broker, safe=True)
    with pytest.raises(PermissionError, match="getpid is not on this node's list"):
        executor.submit(os.getpid).result(100)


def test_results_that_are_not_plain_say_so(bench: Bench, broker: str) -> None:
    with pytest.raises(ResultError, match="of type range, cannot be sent by a safe job"):
        bench.executor(broker, safe=True).submit(range, 3).result(100)


def test_a_pickle_by_hand_is_refused_and_never_loaded(bench: Bench, broker: str) -> None:
    """Both the honest kind of job and one that lies about being safe."""
    evil = bench.folder / "loaded"
    payload = pickle.dumps(((Touch(evil),), {}))
    function = pickle.dumps(Touch(evil))
    named = plain.pack_function(math.factorial)
    cases: dict[str, tuple[bytes, Any, dict[str, Any]]] = {
        "not-safe": (function, payload, {"needs": []}),
        "says-safe": (function, payload, {"needs": [], "safe": True}),
        "arguments": (named, payload, {"needs": ["msgpack"], "safe": True}),
    }
    with Peers() as connect:
        peer = connect(broker)
        peer.hello()
        for job, (code, body, options) in cases.items():
            digest = hashlib.blake2b(code, digest_size=16).digest()
            peer.send(m.Function(digest, "f", [code]))
            peer.send(m.Submit([m.SubmitGroup(job, digest, options, 0, True, [body])]))
            [group] = peer.until(m.Results).groups
            peer.send(m.Ack(1))
            assert (group.job, group.statuses) == (job, bytes([m.Status.RAISED]))
            failure = Failure.decode(group.bodies[0])
            assert failure.pickle is None
            print(job, failure.type, failure.message)
            if job == "not-safe":
                assert "submit with safe=True" in failure.message
    assert not evil.exists()
    # Without the list the very same job is loaded, so it is the node that has refused it.
    bench.node(broker, "ordinary")
    joined(bench.client(broker), 2)
    touching = bench.client(broker).submit_job(len, [([Touch(evil)],)])
    touching.wait(100)
    assert evil.exists()


def test_ordinary_jobs_wait_for_an_ordinary_node_and_say_so(bench: Bench, broker: str) -> None:
    client = bench.client(broker)
    job = client.submit_job(abs, [(-1,)])
    eventually(lambda: client.query("jobs"))
    [reason] = job.why()
    assert "every node is a safe one" in reason
    [node] = client.query("nodes")
    assert node["lacks"] == ["pickle"]
    assert "pickle" not in node["labels"]
    bench.node(broker, "ordinary")
    assert job.results() == [1]
    # A safe job runs on either.
    assert client.submit_job(pow, [(2, n) for n in range(20)], safe=True).results() == [
        2**n for n in range(20)
    ]


def test_what_a_safe_job_cannot_take_is_said_at_once(bench: Bench, broker: str) -> None:
    executor = bench.executor(broker, safe=True)
    with pytest.raises(SubmitError, match=r"cannot run '.*<lambda>'.*not a lambda"):
        executor.submit(lambda: 1).result(0)
    with pytest.raises(SubmitError, match=r"cannot take these arguments: .*set"):
        executor.submit(len, {1}).result(0)
    with pytest.raises(SubmitError, match="cannot take these arguments"):
        executor.submit(pow, 2**70, 2).result(0)
    with pytest.raises(ConfigError, match="no initializer"):
        manyhands.Executor(address=broker, safe=True, initializer=abs)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("json:loads", True),
        ("json.decoder:JSONDecoder", True),
        ("json:codecs.open", False),  # a module that json imports
        ("json:decoder.JSONDecoder", False),  # by another name than its own
        ("os:system", False),
        ("posix:system", False),
        ("subprocess:run", False),
        ("json", False),
        ("json:", False),
    ],
)
def test_a_name_is_where_its_function_is_defined(name: str, allowed: bool) -> None:
    patterns = allowed_functions.parse("json:*, json.*:*")
    assert patterns is not None
    if allowed:
        assert callable(allowed_functions.find(name, "", patterns))
    else:
        with pytest.raises((PermissionError, LookupError)):
            allowed_functions.find(name, "", patterns)


@pytest.mark.parametrize("text", ["math", ":*", "math:", "*:*", "o*:system", "[a-z]*:*", "?s:x"])
def test_a_list_that_leaves_the_package_open_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="safe: "):
        allowed_functions.parse(text)


def test_no_list_is_no_safe_node() -> None:
    assert allowed_functions.parse(" ") is None
