"""What durable work needs of a node: timeouts, at most once, inherited results, captured output."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.brokers.node_broker import FakeBroker, NodeProcess
from harness.payloads import code_of
from harness.pool.pool_rig import PoolRig
from harness.processes import eventually, has_ended
from harness.worlds.worker import World
from manyhands_shared.payloads import pickled as serial
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.job_rules import JobRules
from manyhands_worker.core.model import NO_RULES, Rules

_TIMEOUT = {"timeout": 0.3}


def _spin_in_c(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)  # holds the interpreter lock, and no signal handler would run


def _note(path: str, _: int = 0) -> int:
    with Path(path).open("a") as file:
        file.write("x")
    return os.getpid()


def _log(path: str, number: int) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
    return number


def _log_then(path: str, number: int, deadly: bool) -> int:
    _log(path, number)
    if deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _output(broker: Any, job: str = "job") -> dict[int, str]:
    texts: dict[int, str] = {}
    for message in broker.received:
        if isinstance(message, m.Output) and message.job == job:
            texts[message.index] = texts.get(message.index, "") + message.text
    return texts


# Timeouts


def _until_there(note: Path) -> Iterator[str]:
    """Yield names of jobs until a task has left a note before it had run too long."""
    for number in range(100):
        yield f"job-{number}"
        if note.exists() and note.read_text():
            return


def test_task_that_runs_too_long_is_killed_in_c_code_too(
    broker: FakeBroker, start_node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    start_node(name="unit")
    broker.welcome()
    note = tmp_path / "pid"
    for job in _until_there(note):
        broker.assign(_spin_in_c, (str(note),), job=job, options=_TIMEOUT)
        status, failure = broker.until_ended(len(broker.results) + 1)[job, 1, 0]
        assert status == Status.TIMED_OUT
    assert failure.type == "manyhands.TaskTimeout"
    assert failure.message == "ran longer than its timeout of 0.3 s and was killed on node unit"
    eventually(lambda: has_ended(int(note.read_text())))
    broker.assign(abs, (-1,), job="after")
    assert broker.until_ended(len(broker.results) + 1)["after", 1, 0] == (Status.OK, 1)
    assert not [e for e in broker.received if isinstance(e, m.Event)]


def test_timeout_takes_the_grandchildren_along(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    def with_grandchild(path: str) -> None:
        with subprocess.Popen(["sleep", "600"]) as process:
            Path(path).write_text(str(process.pid))
            process.wait()

    note = tmp_path / "pid"
    for job in _until_there(note):
        broker.assign(with_grandchild, (str(note),), job=job, options={"timeout": 0.5})
        assert broker.until_ended(len(broker.results) + 1)[job, 1, 0][0] == Status.TIMED_OUT
    eventually(lambda: has_ended(int(note.read_text())))


def test_timeout_is_each_tasks_own_and_neighbours_are_not_blamed(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    def work(path: str, slow: bool) -> str:
        if slow:
            threading.Event().wait(600)
        return path

    broker.assign(work, *[("a", False)] * 50, options={"timeout": 4.0})
    broker.until_ended(50)
    # One batch: a slow one among short ones.
    calls = [("a", number == 3) for number in range(9)]
    broker.assign(work, *calls, first=50)
    ended = broker.until_ended(59)
    assert [ended["job", 1, 50 + n][0] for n in range(9)] == [
        Status.TIMED_OUT if slow else Status.OK for _, slow in calls
    ]


def test_short_tasks_together_may_take_longer_than_the_timeout_of_each(
    rig: Callable[..., PoolRig],
) -> None:
    pool = rig()
    rules = Rules(timeout=3.0)
    numbers = pool.submit(_wait, 0.1, count=32, rules=rules)
    assert {status for status, _ in pool.outcome(numbers)} == {Status.OK}
    assert not pool.deaths()


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_pool_sleeps_until_a_timeout_is_due(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    pool.outcome(pool.submit(_wait, 0.0))
    began = time.monotonic()
    number = pool.submit(_wait, 600.0, rules=Rules(timeout=0.5))
    pool.started()
    check_at = pool.child().check_at
    assert began + 0.5 <= check_at <= time.monotonic() + 0.5
    assert pool.outcome(number)[0][0] == Status.TIMED_OUT
    assert pool.deaths()[0].timeout == 0.5
    assert time.monotonic() >= began + 0.5


# At most once


@pytest.mark.parametrize("seed", range(3))
def test_at_most_once_under_kills_at_random_points(
    rig: Callable[..., PoolRig], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    pool = rig(slots=2, slab_bytes=1 << 20)
    log = str(tmp_path / "log")
    rules = Rules(at_most_once=True)
    numbers = [pool.submit(_log, log, n, rules=rules)[0] for n in range(600)]
    pool.kill_children(chance, 30)
    ended = pool.outcome(numbers)
    runs = Counter(map(int, Path(log).read_text().split()))
    assert max(runs.values()) == 1
    for number, (status, _) in enumerate(ended):
        assert status in (Status.OK, Status.CRASHED, Status.LOST)
        assert status != Status.OK or runs[number] == 1


def test_at_most_once_task_that_kills_ends_and_neighbours_keep_their_results(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    once = {"at_most_once": True}
    broker.assign(_log_then, *[(log, n, False) for n in range(50)], options=once)
    broker.until_ended(50)
    broker.assign(_log_then, *[(log, n, n == 57) for n in range(50, 65)], first=50)
    ended = broker.until_ended(65)
    assert [n for n in range(65) if ended["job", 1, n][0] != Status.OK] == [57]
    assert ended["job", 1, 57][0] == Status.CRASHED
    assert set(Counter(map(int, Path(log).read_text().split())).values()) == {1}


def test_at_most_once_stays_true_after_a_new_link(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    log = str(tmp_path / "log")
    broker.assign(_log_then, (log, 0, False), options={"at_most_once": True})
    broker.until_ended(1)
    broker.close()
    broker.open()
    broker.welcome()
    # The broker has told the job's options before, and does not again.
    broker.assign(_log_then, (log, 1, True), first=1)
    assert broker.until_ended(2)["job", 1, 1][0] == Status.CRASHED
    assert sorted(Path(log).read_text().split()) == ["0", "1"]


def test_what_may_have_run_at_most_once_is_lost_with_a_child_that_is_killed(
    make_world: Callable[..., World],
) -> None:
    world = make_world(1)
    world.assign(*range(20))
    for _ in range(20):
        world.tick()
        while world.given[0]:
            world.finish(0)
    options = {"at_most_once": True}
    bodies: list[Any] = [b"args"] * 5
    world.say(m.Assign([m.AssignGroup("once", 1, b"d" * 16, options, list(range(5)), bodies)]))
    world.tick()
    serials = [serial for serial, _, _ in world.given[0]]
    assert len(serials) == 5
    world.claims[0] = serials[2]
    world.die(0)  # it was between two tasks: 0 to 2 may have run
    world.tick()
    lost = [
        (index, status)
        for message in world.sent
        if isinstance(message, m.Results)
        for group in message.groups
        if group.job == "once"
        for index, status in zip(group.indices, group.statuses, strict=True)
    ]
    assert lost == [(0, Status.LOST), (1, Status.LOST), (2, Status.LOST)]
    assert [index for _, _, index in world.given[0]] == [3, 4]


# Results of the jobs that a job comes after


def _given(job: str, *results: tuple[str, dict[int, Any]]) -> m.Given:
    groups = [
        m.ResultGroup(
            parent,
            1,
            list(values),
            bytes(len(values)),
            [serial.dumps(value) for value in values.values()],
            0.0,
        )
        for parent, values in results
    ]
    return m.Given(job, groups)


def test_results_of_parents_come_before_the_own_arguments(
    broker: FakeBroker, node: NodeProcess
) -> None:
    broker.send(_given("job", ("b", {1: "b1", 0: "b0"}), ("a", {0: "a0"}), ("a", {1: "a1"})))

    def task(first: list[str], second: list[str], own: int, *, key: str = "") -> Any:
        return first, second, own, key

    broker.assign(task, (7,), (8,), options={"after": ["a", "b"], "durable": True})
    ended = broker.until_ended(2)
    assert ended["job", 1, 0] == (Status.OK, (["a0", "a1"], ["b0", "b1"], 7, ""))
    assert ended["job", 1, 1] == (Status.OK, (["a0", "a1"], ["b0", "b1"], 8, ""))


def test_results_of_parents_are_loaded_once_per_child(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    class Counted:
        def __init__(self, path: str) -> None:
            self.path = path

        def __reduce__(self) -> Any:
            return (_note, (self.path,))

    path = tmp_path / "loads"
    payload = code_of(Counted(str(path)))[1]
    group = m.ResultGroup("a", 1, [0], bytes(1), [payload], 0.0)
    broker.send(m.Given("job", [group]))
    broker.assign(len, *[()] * 200, options={"after": ["a"]})
    broker.until_ended(200)
    assert path.read_text() == "x"


def test_large_results_of_parents(broker: FakeBroker, node: NodeProcess) -> None:
    array = np.arange(6_000_000, dtype="f8")
    broker.send(_given("job", ("a", {0: array, 1: array[::-1].copy()})))
    broker.assign(lambda parent, i: float(parent[i][1]), (0,), (1,), options={"after": ["a"]})
    ended = broker.until_ended(2)
    assert ended["job", 1, 0] == (Status.OK, 1.0)
    assert ended["job", 1, 1] == (Status.OK, 5_999_998.0)


def test_parents_without_results_are_empty_lists(broker: FakeBroker, node: NodeProcess) -> None:
    broker.assign(lambda *parents: parents, (), options={"after": ["a", "b"]})
    assert broker.until_ended(1)["job", 1, 0] == (Status.OK, ([], []))


def test_result_of_a_parent_that_does_not_load_is_a_failure_that_says_so(
    broker: FakeBroker, node: NodeProcess
) -> None:
    group = m.ResultGroup("a", 1, [0], bytes(1), [b"no pickle"], 0.0)
    broker.send(m.Given("job", [group]))
    broker.assign(lambda parent: parent, (), options={"after": ["a"]})
    status, failure = broker.until_ended(1)["job", 1, 0]
    assert status == Status.RAISED
    assert "a result of a job that this one comes after does not load" in failure.message


def test_inherited_results_are_bounded_and_asked_for_again(
    make_world: Callable[..., World],
) -> None:
    world = make_world(1)
    world.core._work._jobs._limit = 1_000
    for job in ("a", "b"):
        group = m.ResultGroup("parent", 1, [0], bytes(1), [bytes(800)], 0.0)
        world.say(m.Given(job, [group]))
    world.assign(0, job="a")
    hellos = sum(isinstance(message, m.WorkerHello) for message in world.sent)
    world.tick()
    assert not world.given[0]
    assert sum(isinstance(message, m.WorkerHello) for message in world.sent) == hellos + 1
    world.welcome([])
    world.say(m.Given("a", [group]))
    world.assign(0, job="a", attempt=2)
    world.tick()
    assert world.given[0]


def test_what_is_known_of_jobs_goes_with_their_broker() -> None:
    jobs = JobRules(lambda job: False)
    group = m.AssignGroup("j", 1, b"d" * 16, {"timeout": 2.0, "after": ["p"]}, [0], [b""])
    rules = jobs.rules(group)
    assert (rules.timeout, rules.after) == (2.0, ("p",))
    later = m.AssignGroup("j", 1, b"d" * 16, None, [1], [b""])
    assert jobs.rules(later) == rules
    jobs.welcome({"j"})
    assert jobs.rules(later) == rules
    jobs.welcome(set())
    assert jobs.rules(later) == NO_RULES


# Output


def test_output_of_durable_jobs_goes_to_the_broker_and_to_the_log(
    broker: FakeBroker, node: NodeProcess
) -> None:
    def speak(number: int) -> None:
        print(f"out {number}")
        print(f"err {number}", file=sys.stderr)
        os.write(1, b"raw %d\n" % number)
        subprocess.run(["echo", f"child {number}"], check=True)

    broker.assign(speak, *[(n,) for n in range(5)], options={"durable": True})
    broker.until_ended(5)
    assert _output(broker) == {n: f"out {n}\nerr {n}\nraw {n}\nchild {n}\n" for n in range(5)}
    eventually(lambda: "raw 4" in node.errors)
    # It came before the results that it belongs to.
    assert not isinstance(broker.received[1], m.Results)


def test_output_of_other_jobs_stays_here(broker: FakeBroker, node: NodeProcess) -> None:
    broker.assign(print, ("kept",), options={"durable": True})
    broker.until_ended(1)
    broker.assign(print, ("not kept",), job="plain")
    broker.until_ended(2)
    assert _output(broker) == {0: "kept\n"}
    assert _output(broker, "plain") == {}
    eventually(lambda: "not kept" in node.output)


@pytest.mark.parametrize(
    "end",
    [
        lambda: os._exit(3),
        lambda: ctypes.string_at(0),
        lambda: os.kill(os.getpid(), signal.SIGKILL),
    ],
)
def test_last_words_before_a_crash_are_told(
    broker: FakeBroker, node: NodeProcess, end: Callable[[], object]
) -> None:
    def task() -> None:
        for number in range(8):
            print(f"step {number}")
        end()

    broker.assign(task, (), options={"durable": True})
    status, failure = broker.until_ended(1)["job", 1, 0]
    assert status == Status.CRASHED
    assert failure.message.endswith("it last printed: step 3 | step 4 | step 5 | step 6 | step 7")
    assert _output(broker)[0].splitlines() == [f"step {number}" for number in range(8)]


def test_output_is_seen_while_the_task_runs(
    broker: FakeBroker, node: NodeProcess, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def task(path: str) -> None:
        print("begun")
        Path(path).read_text()

    broker.assign(task, (str(gate),), options={"durable": True})
    assert broker.expect(m.Output).text == "begun\n"
    gate.write_text("go on")
    broker.until_ended(1)


def test_long_output_is_cut_for_each_task_and_little_output_is_not(
    broker: FakeBroker, node: NodeProcess
) -> None:
    def shout(size: int) -> None:
        print("first " + "x" * size + " last")

    broker.assign(shout, (1 << 20,), (10,), (20_000,), (70_000,), options={"durable": True})
    broker.until_ended(4)
    texts = _output(broker)
    for number, size in ((0, 1 << 20), (3, 70_000)):
        assert len(texts[number]) < (64 << 10) + 100
        assert texts[number].startswith("first xxx")
        assert texts[number].endswith("xxx last\n"), "what was printed last is kept"
        left_out = size + len("first  last\n") - (64 << 10)
        assert f"[more was printed here: {left_out:,} bytes that are not kept]" in texts[number]
    assert texts[1] == "first " + "x" * 10 + " last\n"
    assert texts[2] == "first " + "x" * 20_000 + " last\n"


def test_a_task_that_dies_leaves_the_last_of_a_long_output(
    broker: FakeBroker, node: NodeProcess
) -> None:
    def shout() -> None:
        for number in range(20_000):
            print(f"line {number}")
        os._exit(3)

    broker.assign(shout, (), options={"durable": True})
    broker.until_ended(1)
    assert "line 0\n" in _output(broker)[0]
    assert _output(broker)[0].endswith("line 19998\nline 19999\n")


def test_odd_output_does_no_harm(broker: FakeBroker, node: NodeProcess) -> None:
    def task() -> None:
        os.write(1, b"\xff\0\xfe" + os.urandom(20_000) + b"\0" * 50)

    broker.assign(task, *[()] * 3, options={"durable": True})
    assert [status for status, _ in broker.until_ended(3).values()] == [Status.OK] * 3


def test_task_that_closes_its_output_does_not_stop_the_next(
    broker: FakeBroker, node: NodeProcess
) -> None:
    def close() -> None:
        os.close(1)
        os.close(2)

    broker.assign(close, (), options={"durable": True})
    broker.until_ended(1)
    broker.assign(abs, (-1,), job="after", options={"durable": True})
    broker.assign(abs, (-2,), job="plain")
    assert broker.until_ended(3)["plain", 1, 0] == (Status.OK, 2)


def test_the_mark_between_tasks_may_be_cut_anywhere() -> None:
    from multiprocessing.connection import Pipe

    from manyhands_worker.ipc.control_block import new_block, words
    from manyhands_worker.ipc.output_capture import LOG, Capture
    from manyhands_worker.ipc.output_redirect import OutputRedirect, new_secret

    secret = new_secret()
    (near, far), (error, error_far) = Pipe(duplex=False), Pipe(duplex=False)
    redirect = OutputRedirect((far, error_far), secret, words(new_block()))
    for serial_number in range(1, 4):
        redirect.begin(serial_number)
        os.write(far.fileno(), b"text \0 of %d\n" % serial_number)
    stream = os.read(near.fileno(), 1 << 16)
    for size in range(1, 80):
        capture = Capture((near, error), secret)
        capture.expect(1, LOG)
        parts: list[tuple[int, int, str]] = []
        for at in range(0, len(stream), size):
            os.write(far.fileno(), stream[at : at + size])
            parts += capture.read(0.0)
        parts += capture.finish(3, idle=True)
        texts: dict[int, str] = {}
        for number, _, text in parts:
            texts[number] = texts.get(number, "") + text
        assert texts == {n: f"text \ufffd of {n}\n" for n in (1, 2, 3)}
    for end in (near, far, error, error_far):
        end.close()
