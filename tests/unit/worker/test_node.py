"""A whole node against a broker that does as the test says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.brokers.node_broker import FakeBroker, NodeProcess
from harness.processes import Gate, eventually, has_ended, wait_at, without_waits
from manyhands_shared import shm
from manyhands_shared.protocol import heartbeat as beat
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status
from manyhands_shared.security.cluster_key import ClusterKey


def _double(value: int) -> int:
    return value * 2


def _pid() -> int:
    return os.getpid()


def _stay(path: str, *_: Any) -> None:
    Path(path).write_text(str(os.getpid()))
    threading.Event().wait(600)


def _wait_for(path: str) -> int:
    if path:
        wait_at(Path(path))
    return os.getpid()


def _log_and_wait(log: str, gate: str) -> None:
    with Path(log).open("a") as file:
        file.write("x")
    if gate:
        wait_at(Path(gate))


def _written(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text()))


def test_hello_says_who_it_is(broker: FakeBroker, start_node: Callable[..., NodeProcess]) -> None:
    node = start_node(name="unit", slots=2, window=77)
    hello = broker.welcome()
    assert (hello.protocol, hello.node, hello.slots, hello.window) == (1, "unit", 2, 77)
    assert hello.holding == []
    assert hello.info["pid"] == node.pid
    assert hello.info["cloudpickle"]
    assert hello.info["python"].startswith("3.")


def test_many_tasks_in_few_messages(broker: FakeBroker, node: NodeProcess) -> None:
    broker.assign(_double, *[(n,) for n in range(5_000)])
    results = broker.until_ended(5_000)
    assert results == {("job", 1, n): (Status.OK, 2 * n) for n in range(5_000)}
    messages = [message for message in broker.received if isinstance(message, m.Results)]
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    assert len(messages) < 2_500
    assert sum(group.seconds for message in messages for group in message.groups) > 0


def test_asks_for_a_function_that_it_lacks(broker: FakeBroker, node: NodeProcess) -> None:
    digest = broker.assign(_double, (1,), with_code=False)
    assert broker.expect(m.Need).digest == digest
    broker.assign(_double, (2,), first=1)
    assert broker.until_ended(2) == {("job", 1, 0): (Status.OK, 2), ("job", 1, 1): (Status.OK, 4)}


def test_the_same_assignment_twice_runs_once(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    broker.assign(_log_and_wait, (str(log), ""))
    broker.assign(_log_and_wait, (str(log), ""), (str(log), ""))
    broker.until_ended(2)
    broker.assign(abs, (-1,), job="after")
    broker.until_ended(3)
    assert log.read_text() == "xx"


def test_crash_is_reported_and_the_node_goes_on(broker: FakeBroker, node: NodeProcess) -> None:
    broker.assign(lambda: os.kill(os.getpid(), signal.SIGKILL), ())
    (status, failure), *_ = broker.until_ended(1).values()
    assert status == Status.CRASHED
    assert failure.type == "manyhands.TaskCrashed"
    assert "SIGKILL (9)" in failure.message
    assert "running task 0 of job job" in failure.message
    broker.assign(abs, (-1,), first=1)
    assert broker.until_ended(2)["job", 1, 1] == (Status.OK, 1)
    events = [message for message in broker.received if isinstance(message, m.Event)]
    assert [event.kind for event in events] == ["child-died"]


def test_cancel_waiting_and_running(broker: FakeBroker, node: NodeProcess, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    broker.assign(_stay, (str(note),), (str(note),))
    pid = _written(note)
    broker.send(m.Cancel([m.Span("job", 0, [])]))
    results = broker.until_ended(2)
    assert [status for status, _ in results.values()] == [Status.CANCELLED] * 2
    assert has_ended(pid)
    broker.assign(abs, (-1,), first=2)
    assert broker.until_ended(3)["job", 1, 2] == (Status.OK, 1)


def test_cancel_leaves_neighbours_alone(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    gate, log = Gate(tmp_path / "gate"), tmp_path / "log"
    broker.assign(_log_and_wait, *[(str(tmp_path / "first"), "")] * 40)
    broker.until_ended(40)
    # One batch: the first holds the slot, the second is cancelled, the third must run.
    broker.assign(_log_and_wait, (str(log), str(gate.path)), *[(str(log), "")] * 2, job="batch")
    eventually(log.exists)
    broker.send(m.Cancel([m.Span("batch", 1, [1])]))
    results = broker.until_ended(41)
    assert results["batch", 1, 1][0] == Status.CANCELLED
    gate.open()
    results = broker.until_ended(43)
    assert results["batch", 1, 0][0] == results["batch", 1, 2][0] == Status.OK
    assert log.read_text() == "xx"


def test_recall_gives_back_what_has_not_started(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    broker.assign(_wait_for, *[(str(gate.path),)] * 5)
    broker.send(m.Recall(3))
    spans = broker.expect(m.Returned).spans
    assert sorted(i for span in spans for i in span.indices) == [2, 3, 4]
    gate.open()
    assert sorted(i for _, _, i in broker.until_ended(2)) == [0, 1]
    broker.send(m.Recall(3))
    assert broker.expect(m.Returned).spans == []


def test_tasks_move_from_behind_a_slow_one_to_an_idle_slot(
    broker: FakeBroker, start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    start_node(slots=2)
    broker.welcome()
    gate = Gate(tmp_path / "gate")
    broker.assign(_wait_for, *[("",)] * 200)
    broker.until_ended(200)
    broker.assign(_wait_for, (str(gate.path),), *[("",)] * 20, job="mixed")
    # All but the slow one finish while it still runs.
    broker.until_ended(220)
    assert ("mixed", 1, 0) not in broker.results
    gate.open()
    broker.until_ended(221)


def test_tasks_per_child(broker: FakeBroker, node: NodeProcess) -> None:
    broker.assign(_pid, *[()] * 5, options={"tasks_per_child": 2})
    pids = [pid for _, pid in broker.until_ended(5).values()]
    assert len(set(pids)) == 3


def test_drain_on_sigterm(broker: FakeBroker, node: NodeProcess, tmp_path: Path) -> None:
    gate, note = Gate(tmp_path / "gate"), tmp_path / "note"

    def announce(note: str, gate: str) -> str:
        Path(note).write_text("1")
        wait_at(Path(gate))
        return "done"

    broker.assign(announce, *[(str(note), str(gate.path))] * 3)
    _written(note)
    node.signal(signal.SIGTERM)
    assert broker.expect(m.Renew).window == 0
    returned = broker.expect(m.Returned)
    assert [span.indices for span in returned.spans] == [[1, 2]]
    gate.open()
    assert broker.until_ended(1) == {("job", 1, 0): (Status.OK, "done")}
    assert broker.expect(m.Bye).reason == "drained"
    assert node.wait() == 0
    assert without_waits(node.errors) == ""


def test_drain_gives_up_in_time(
    broker: FakeBroker, start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    node = start_node(drain_timeout=0.2)
    broker.welcome()
    note = tmp_path / "note"
    broker.assign(_stay, (str(note),))
    pid = _written(note)
    broker.send(m.Drain("scale-in"))
    assert "1 task given up" in broker.expect(m.Bye).reason
    assert node.wait() == 0
    assert has_ended(pid)


def test_second_signal_ends_it_at_once(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    broker.assign(_stay, (str(note),))
    pid = _written(note)
    node.signal(signal.SIGINT)
    broker.expect(m.Renew)
    node.signal(signal.SIGINT)
    assert node.wait() == 130
    assert has_ended(pid)
    assert "Traceback" not in node.errors


def test_killed_node_takes_everything_along(
    broker: FakeBroker, start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    # A short path: the fork server has a socket in there.
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:
        node = start_node(slots=2, scratch=scratch)
        broker.welcome()
        notes = [tmp_path / "task", tmp_path / "grandchild"]

        def with_grandchild(task: str, grandchild: str) -> None:
            with subprocess.Popen(["sleep", "600"]) as process:
                Path(grandchild).write_text(str(process.pid))
                Path(task).write_text(str(os.getpid()))
                process.wait()

        broker.assign(with_grandchild, tuple(map(str, notes)))
        pids = [*map(_written, notes)]
        # Heartbeat, fork server, resource tracker, children, grandchild.
        family = eventually(
            lambda: len(them := psutil.Process(node.pid).children(recursive=True)) >= 6 and them
        )
        assert {process.pid for process in family} >= {*pids}
        node.signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=120)
        assert not alive
        eventually(lambda: not os.listdir(scratch), what="no file was left")  # noqa: PTH208


def test_children_die_with_the_node_even_if_nobody_sweeps_up(
    broker: FakeBroker, start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    node = start_node()
    broker.welcome()
    note = tmp_path / "note"
    broker.assign(_stay, (str(note),))
    child = _written(note)
    siblings = eventually(
        lambda: len(them := psutil.Process(child).parent().children()) == 2 and them
    )
    (heartbeat,) = [process for process in siblings if process.pid != child]
    heartbeat.suspend()
    try:
        node.signal(signal.SIGKILL)
        eventually(lambda: has_ended(child))
    finally:
        heartbeat.resume()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_fork_server_that_gets_a_signal(broker: FakeBroker, node: NodeProcess, number: int) -> None:
    broker.assign(abs, (-1,), job="before")
    broker.until_ended(1)  # it has begun, and knows what to do about signals
    (server,) = [
        process
        for process in psutil.Process(node.pid).children()
        if "multiprocessing.forkserver" in " ".join(process.cmdline())
    ]
    os.kill(server.pid, number)
    broker.assign(abs, *[(-1,)] * 300)
    results = broker.until_ended(301)
    assert {status for status, _ in results.values()} <= {Status.OK, Status.CRASHED}
    broker.assign(abs, (-1,), job="after")
    assert broker.until_ended(302)["after", 1, 0] == (Status.OK, 1)
    eventually(lambda: has_ended(server.pid) == (number == signal.SIGKILL))


def test_unacknowledged_results_go_out_again_on_a_new_link(
    broker: FakeBroker, node: NodeProcess
) -> None:
    broker.acknowledge = False
    broker.assign(_double, (1,), (2,))
    broker.until_ended(2)
    broker.close()
    broker.results.clear()
    broker.open()
    hello = broker.welcome()
    assert hello.holding == [m.Span("job", 1, [0, 1])]
    broker.until_ended(2)
    first = next(message for message in broker.received[::-1] if isinstance(message, m.Results))
    assert first.seq in (1, 2)
    assert broker.results == {("job", 1, 0): (Status.OK, 2), ("job", 1, 1): (Status.OK, 4)}


def test_what_the_broker_does_not_keep_is_dropped_and_killed(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    broker.acknowledge = False
    broker.assign(_double, (1,), (2,))
    broker.until_ended(2)
    broker.assign(_stay, (str(note),), (str(note),), job="slow")
    pid = _written(note)
    broker.results.clear()
    broker.close()
    broker.open()
    broker.welcome(keep=[m.Span("job", 1, [1])])
    broker.until_ended(1)
    assert broker.results == {("job", 1, 1): (Status.OK, 4)}
    eventually(lambda: has_ended(pid))
    broker.acknowledge = True
    broker.assign(abs, (-5,), job="later")
    while ("later", 1, 0) not in broker.results:
        broker.receive()
    assert not any(job == "slow" for job, _, _ in broker.results)


def test_who_makes_it_say_hello_again(broker: FakeBroker, node: NodeProcess) -> None:
    broker.acknowledge = False
    broker.assign(abs, (-1,))
    broker.until_ended(1)
    broker.send(m.Who(b"c" * 16))
    hello = broker.welcome()
    assert hello.holding == [m.Span("job", 1, [0])]
    assert broker.expect(m.Results).seq == 1


def test_silence_for_a_lease_makes_a_new_link(
    broker: FakeBroker, start_node: Callable[..., NodeProcess]
) -> None:
    broker.lease, broker.renew_interval, broker.answer_renewals = 0.4, 0.1, False
    start_node()
    broker.welcome()
    first = broker.peer
    broker.answer_renewals = True
    broker.lease = 15.0
    # The first link's renewals stay unanswered: they are read with the hello of the next.
    eventually(lambda: broker.router.poll(0))
    broker.answer_renewals = False
    broker.welcome()
    assert broker.peer != first


@pytest.mark.parametrize("code", ["name-taken", "protocol"])
def test_refusal_ends_it_with_one_line(
    broker: FakeBroker, start_node: Callable[..., NodeProcess], code: str
) -> None:
    node = start_node()
    broker.expect(m.WorkerHello)
    broker.send(m.Refused(code, "there is another one of that name"))
    assert node.wait() == 1
    assert without_waits(node.errors).splitlines() == [
        "manyhands worker: the broker refuses this node: there is another one of that name"
    ]


def test_garbage_from_the_broker_is_survived(broker: FakeBroker, node: NodeProcess) -> None:
    for frames in ([b"\xc1"], [b""], [b"\x93\x14\x01\x02", b"x"], [os.urandom(200)] * 3):
        broker.router.send_multipart([broker.peer, *frames])
    broker.send(m.Accepted([], 3, 3))
    broker.send(m.Ack(99))
    broker.assign(abs, (-1,))
    broker.until_ended(1)
    assert without_waits(node.errors) == ""


def test_prints_of_tasks_are_seen(broker: FakeBroker, node: NodeProcess) -> None:
    broker.assign(print, ("hello from a task",))
    broker.until_ended(1)
    eventually(lambda: "hello from a task" in node.output)


def test_leaves_when_its_lifeline_is_cut(broker: FakeBroker) -> None:
    config = json.dumps({"broker": broker.address, "beats": False})
    near, far = os.pipe()
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "manyhands_worker",
                f"--lifeline={near}",
                f"--config-json={config}",
            ],
            pass_fds=[near],
            stderr=subprocess.PIPE,
        )
        broker.welcome()
        os.close(far)
        assert process.wait(100) == 130
        assert without_waits(process.communicate()[1].decode()) == ""
    finally:
        os.close(near)


def test_bad_options_are_told_in_one_line() -> None:
    for options in ('{"nonsense": 1}', "not json"):
        result = subprocess.run(
            [sys.executable, "-m", "manyhands_worker", "--config-json", options],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 2
        assert "Traceback" not in result.stderr


def test_key_file_that_is_not_there(start_node: Callable[..., NodeProcess], tmp_path: Path) -> None:
    node = start_node(key_file=str(tmp_path / "absent"))
    assert node.wait() == 2
    assert "no key file" in node.errors
    assert "Traceback" not in node.errors


def test_works_over_an_encrypted_link(
    broker: FakeBroker, start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    key = ClusterKey.new()
    key.save(tmp_path / "key")
    broker.close()
    broker.open(secret=key.pair("broker").secret)
    start_node(key_file=str(tmp_path / "key"))
    broker.welcome()
    broker.assign(abs, (-1,))
    assert broker.until_ended(1) == {("job", 1, 0): (Status.OK, 1)}


def test_broker_that_wants_a_key_is_told_from_one_that_is_away(
    broker: FakeBroker, start_node: Callable[..., NodeProcess]
) -> None:
    broker.close()
    broker.open(secret=ClusterKey.new().pair("broker").secret)
    node = start_node()
    assert node.wait() == 4
    *before, last = node.errors.splitlines()  # before, on a busy machine: it is not let in yet
    assert "wants a key" in last
    assert all("no broker has let this node in yet" in line for line in before), before


@pytest.mark.skipif(not shm.AVAILABLE, reason="memory is lent on Linux only")
def test_where_a_node_lends_does_not_follow_from_what_it_says_of_itself(
    broker: FakeBroker, start_node: Callable[..., NodeProcess]
) -> None:
    start_node()
    hello = broker.welcome()
    names = Path("/proc/net/unix").read_text()
    assert "@manyhands-" in names
    assert hello.boot_id.hex() not in names, "heartbeats carry it unencrypted"


def heard(udp: socket.socket) -> beat.Beat:
    """Return the next heartbeat."""
    found = beat.peek(udp.recv(1_000))
    assert found is not None
    return found


def test_beats_and_their_restart(
    broker: FakeBroker, start_node: Callable[..., NodeProcess]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(100)
        broker.beat_port = udp.getsockname()[1]
        node = start_node(beats=True)
        hello = broker.welcome()
        datagram = udp.recv(1_000)
        assert beat.verify(datagram, b"k" * 32)
        first = beat.peek(datagram)
        assert first is not None
        assert (first.row, first.boot_id) == (3, hello.boot_id)
        while (second := heard(udp)).turns == first.turns:
            assert second.counter > first.counter
        assert second.rss > 1 << 20
        sender = next(
            process.pid
            for process in psutil.Process(node.pid).children(recursive=True)
            if any(c.laddr for c in process.net_connections("udp"))
        )
        os.kill(sender, signal.SIGKILL)
        event = broker.expect(m.Event)
        assert event.kind == "heartbeat-died"
        assert "SIGKILL" in event.text
        last = second.counter
        eventually(lambda: heard(udp).counter > last + 3)
