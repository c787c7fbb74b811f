"""Disks, shared memory and descriptors that run out: said clearly, survived, and overcome."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from harness.cluster.bench import Bench, joined
from harness.cluster.parts import Node
from harness.cluster.peers import Peer, Peers, node_hello, results_of
from harness.processes import eventually
from manyhands_shared.protocol import messages as m

BOUND = 100.0
#: No node loses it for the sake of a busy machine, nor one that renews nothing.
LEASE = 600.0
MIB = 1 << 20


@cache
def can_mount() -> bool:
    """Whether a mount namespace with a tmpfs in it can be had."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(
    not can_mount(), reason="needs to mount a small tmpfs in a namespace of its own (root)"
)


def small(place: str | Path, size: int) -> Sequence[str]:
    """A command prefix: `place` is a tmpfs of `size` bytes, seen by that process alone."""
    mount = f"mount -t tmpfs -o size={size} manyhands-test {place}"
    return ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "small"]


@needs_mount
def test_a_full_disk_refuses_submissions_and_serves_what_it_has(bench: Bench) -> None:
    """Row 23, with a real file system that is really full; then there is room again."""
    folder = bench.folder / "journal"
    folder.mkdir()
    size = 96 * MIB
    broker = bench.broker(journal=str(folder), prefix=small(folder, size), lease=LEASE)
    seen = Path(f"/proc/{broker.pid}/root{folder}")  # through its own namespace
    with Peers() as connect:
        client, node = connect(broker.address), connect(broker.address)
        client.hello()
        accepted = fill(client)
        assert accepted, "what there was room for was taken"
        fill_up(seen / "filler")
        node.send(node_hello("node", b"n" * 16, window=10))
        ended: dict[str, int] = {}
        for job in accepted:
            client.send(m.Attach(job))
        seq = 0

        def over() -> bool:
            nonlocal seq
            message = node.receive()
            if isinstance(message, m.Ping):
                node.send(m.Pong(message.counter))
            if isinstance(message, m.Assign):
                for group in message.groups:
                    seq += 1
                    node.send(results_of(group, seq))
            while (found := client.receive()) is not None:
                if isinstance(found, m.Results):
                    for told in found.groups:
                        ended[told.job] = ended.get(told.job, 0) + len(told.indices)
                    client.send(m.Ack(found.seq))
            return ended.keys() == set(accepted)

        # What cannot be written is not told to anybody either, and is not given up.
        eventually(lambda: over() or "nothing goes on" in broker.log, BOUND, interval=0)
        (seen / "filler").unlink()
        eventually(over, BOUND, interval=0, what="all that was accepted is delivered")
        assert set(ended.values()) == {1}
        # With room again, submissions are taken again.
        for job in accepted:
            client.send(m.Detach(job))
            client.ask("forget", id=job)
        eventually(lambda: submitted(client, f"again-{len(client.ask('jobs'))}"), BOUND)
    assert broker.alive
    assert "Traceback" not in broker.log


def fill_up(file: Path) -> None:
    """Take all the room that a file system has left."""
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while filler.write(bytes(MIB // 4)):
            pass


def fill(client: Peer) -> list[str]:
    """Submit until a submission is refused for lack of room; the ids of jobs that were taken."""
    accepted: list[str] = []
    for number in range(200):
        if not submitted(client, f"job-{number}"):
            return accepted
        accepted.append(f"job-{number}")
    raise AssertionError("a full disk takes everything")


def submitted(client: Peer, job: str) -> bool:
    """Submit a durable job of a mebibyte; whether it was taken, otherwise a sentence says why not."""
    client.submit(job, [os.urandom(MIB)], durable=True)
    answer = eventually(lambda: settled(client), BOUND, what="an answer")
    if isinstance(answer, m.Rejected):
        assert "room" in answer.reason or "full" in answer.reason, answer.reason
        return False
    assert isinstance(answer, m.Accepted)
    return any(count.job == job and count.tasks for count in answer.jobs)


def settled(client: Peer) -> m.Accepted | m.Rejected | None:
    """The broker's answer to a submission, if it is there."""
    message = client.receive(0.1)
    if isinstance(message, m.Accepted) and not message.jobs:
        return None
    return message if isinstance(message, m.Accepted | m.Rejected) else None


@needs_mount
@pytest.mark.parametrize("size", [MIB, 24 * MIB], ids=["none", "little"])
def test_shared_memory_that_is_full_costs_speed_and_not_results(bench: Bench, size: int) -> None:
    """Row 41: no SIGBUS, however large the results are."""
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    node = bench.node(broker.address, prefix=small("/dev/shm", size), slab_bytes=64 * MIB, slots=2)
    joined(client, 1)
    executor = bench.executor(broker.address)
    large = [executor.submit(lambda n: bytes([n]) * (16 * MIB), n) for n in range(6)]
    for number, future in enumerate(large):
        assert future.result(BOUND) == bytes([number]) * (16 * MIB)
    # Another program fills it up while the node runs.
    shared = Path(f"/proc/{node.pid}") / "root" / "dev/shm/filler"
    fill_up(shared)
    grown = [executor.submit(mebibytes, n) for n in range(6)]
    for number, grows in enumerate(grown):
        assert grows.result(BOUND) == bytearray([number]) * (16 * MIB)
    assert "SIGBUS" not in node.log
    assert not any(event["kind"] == "child-died" for event in client.query("events"))
    assert "shared memory" in node.log or any(
        event["kind"] == "small-shm" for event in client.query("events")
    )


def mebibytes(number: int) -> bytearray:
    """Return sixteen of them."""
    return bytearray([number]) * (16 * MIB)


def descriptors(pid: int) -> int:
    """How many it has open."""
    return int(psutil.Process(pid).num_fds())


def limit_descriptors(pid: int, count: int) -> None:
    """Let a running process have at most `count` descriptors."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, hard))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_a_broker_out_of_descriptors_serves_whom_it_has_and_recovers(bench: Bench) -> None:
    """Row 42: strangers wait; who is connected notices nothing; then they come in."""
    broker = bench.broker(journal=str(bench.folder / "journal"), lease=LEASE)
    usual, _ = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
    with Peers() as connect:
        client, node = connect(broker.address), connect(broker.address)
        client.hello()
        node.send(node_hello("node", b"n" * 16))
        node.until(m.WorkerWelcome)
        limit_descriptors(broker.pid, descriptors(broker.pid))
        crowd = [connect(broker.address) for _ in range(30)]
        tokens = [os.urandom(16) for _ in crowd]
        for peer, token in zip(crowd, tokens, strict=True):
            peer.send(m.ClientHello(m.PROTOCOL_VERSION, token, "crowd", 0, 0, {}))
        for number in range(20):
            client.submit(f"job-{number}", [b"a"], durable=number % 2 == 0)
            group = node.until(m.Assign).groups[0]
            assert group.job == f"job-{number}"
            node.send(results_of(group, number + 1))
        # The broker may read the question before the last result: they come over two links.
        eventually(lambda: client.ask("stats")["counters"]["tasks_done"] == 20, BOUND)
        assert broker.alive
        limit_descriptors(broker.pid, usual)
        for peer in crowd:
            peer.until(m.ClientWelcome, BOUND)
        eventually(lambda: client.ask("stats")["sessions"] == 31, BOUND)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_a_node_out_of_descriptors_says_so_and_recovers(bench: Bench) -> None:
    """Row 42: its child dies and cannot be replaced, until it can."""
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    node = bench.node(broker.address)
    joined(client, 1)
    executor = bench.executor(broker.address)
    child = executor.submit(os.getpid).result(BOUND)
    usual, _ = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    limit_descriptors(node.pid, 3)
    psutil.Process(child).kill()

    def told() -> bool:
        return any("Too many open files" in event["text"] for event in client.query("events"))

    eventually(told, BOUND, what="the lack was reported")
    future = executor.submit(abs, -1)
    assert node.alive
    limit_descriptors(node.pid, usual)
    assert future.result(BOUND) == 1


def kill_children(node: Node) -> None:
    """Kill what serves the node's slots and sends its heartbeats, but not what starts them."""
    for process in node.children:
        with suppress(psutil.NoSuchProcess):
            if process.ppid() != node.pid:
                process.kill()


@pytest.mark.parametrize("what", ["temporary", "emptied", "working", "replaced"])
def test_a_node_whose_directory_was_removed_goes_on(bench: Bench, what: str) -> None:
    """Row 50: what it needs to start children is made anew."""
    # Not in the long path of the test's own folder: sockets lie in there.
    folder = Path(bench.stack.enter_context(tempfile.TemporaryDirectory()))
    temporary, working = folder / "t", folder / "w"
    temporary.mkdir()
    working.mkdir()
    enter = ["env", f"TMPDIR={temporary}", "sh", "-c", f'cd {working} && exec "$@"', "enter"]
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    node = bench.node(broker.address, prefix=enter)
    joined(client, 1)
    executor = bench.executor(broker.address)
    executor.submit(abs, -1).result(BOUND)
    lost = working if what in {"working", "replaced"} else temporary
    shutil.rmtree(lost)
    if what in {"emptied", "replaced"}:
        lost.mkdir()
    kill_children(node)
    assert list(executor.map(abs, range(20), timeout=BOUND)) == list(range(20))
    assert node.alive
    place = "working" if lost is working else "temporary"
    # Tasks have a directory: the one of that name, if there is one again.
    where = working if what != "working" else temporary
    assert executor.submit(os.getcwd).result(BOUND) == str(where)

    def told() -> bool:
        texts = [event["text"] for event in client.query("events")]
        return any(f"its {place} directory was removed" in text for text in texts)

    eventually(told, BOUND, what="the removal was reported")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_a_node_that_cannot_start_children_gives_its_tasks_to_others(bench: Bench) -> None:
    """Row 50: its tasks run elsewhere, nothing is given to it, and it says why; then it can again."""
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    node = bench.node(broker.address, name="barren")
    joined(client, 1)
    executor = bench.executor(broker.address)
    child = executor.submit(os.getpid).result(BOUND)
    usual, _ = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    limit_descriptors(node.pid, 3)
    psutil.Process(child).kill()
    futures = [executor.submit(abs, -number) for number in range(20)]

    def told() -> bool:
        return any("gives its tasks back" in event["text"] for event in client.query("events"))

    eventually(told, BOUND, what="the node said that it has no children")
    bench.node(broker.address, name="healthy")
    assert [future.result(BOUND) for future in futures] == list(range(20))
    limit_descriptors(node.pid, usual)
    eventually(lambda: "children start again" in node.log, BOUND, what="the node has recovered")


def array_of(number: int) -> Any:
    """A result of 300 kB."""
    return np.full(37_500, float(number))


@pytest.mark.parametrize("limit", [1024, 128])
def test_results_that_a_client_keeps_do_not_use_up_a_nodes_descriptors(
    bench: Bench, limit: int
) -> None:
    """Row 47: when few are left, results go through the broker."""
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    lower = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "lower"]
    node = bench.node(broker.address, slots=4, prefix=lower)
    joined(client, 1)
    executor = bench.executor(broker.address)
    kept = list(executor.map(array_of, range(600), timeout=BOUND))
    assert [array[-1] for array in kept] == list(map(float, range(600)))
    assert all(array.flags.writeable for array in kept)
    other = bench.executor(broker.address)
    assert other.submit(abs, -1).result(BOUND) == 1
    events = [event["text"] for event in client.query("events")]
    assert not any("makes no sense" in text or "cannot start" in text for text in events), events
    assert descriptors(node.pid) < limit


_MAPS_LARGE_ARRAYS = """
import sys, numpy, manyhands
arrays = [numpy.full(132_500, float(number)) for number in range(300)]
with manyhands.Pool(address=sys.argv[1]) as pool:
    sums = pool.map(numpy.sum, arrays)
assert sums == [132_500.0 * number for number in range(300)]
"""


@pytest.mark.parametrize(("node_limit", "client_limit"), [(128, 1024), (1024, 64)])
def test_large_arguments_do_not_use_up_descriptors(
    bench: Bench, node_limit: int, client_limit: int
) -> None:
    """Row 47: many values share a file, and where few are left they travel whole."""
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    lower = ["sh", "-c", f'ulimit -n {node_limit}; exec "$@"', "lower"]
    node = bench.node(broker.address, slots=2, prefix=lower)
    joined(client, 1)
    script = [sys.executable, "-c", _MAPS_LARGE_ARRAYS, broker.address]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {client_limit}; exec "$@"', "lower", *script],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert node.alive
    assert bench.executor(broker.address).submit(abs, -1).result(BOUND) == 1


_LARGE_RESULTS = """
import manyhands
with manyhands.Pool(1) as pool:
    assert len(pool.apply(bytes, (3_000_000,))) == 3_000_000
    assert len(pool.apply(bytes, (20_000_000,))) == 20_000_000
"""


@pytest.mark.parametrize(
    ("blocks", "said"), [(16_384, ""), (1_024, "raise the limit (`ulimit -f`)")]
)
def test_where_files_may_not_be_large_a_cluster_works_or_says_so(blocks: int, said: str) -> None:
    """A block is 512 bytes or a kilobyte: shells differ."""
    lower = ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "lower"]
    done = subprocess.run(
        [*lower, sys.executable, "-c", _LARGE_RESULTS],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert said in done.stderr.splitlines()[0]
    assert (done.returncode == 0) == (not said), done.stderr
