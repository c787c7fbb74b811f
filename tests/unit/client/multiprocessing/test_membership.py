"""What belongs to a program that has ended begins no other one."""

from __future__ import annotations

import select
from typing import Any

import pytest

from harness.brokers.local_broker import SECRET, local_members
from manyhands.multiprocessing._memory import segments
from manyhands.multiprocessing._memory.segments import Segment
from manyhands.multiprocessing._processes import ends, membership
from manyhands.multiprocessing._processes.agent_listener import connect
from manyhands.multiprocessing.queues import Queue
from manyhands.multiprocessing.synchronize import Event, Lock
from manyhands_shared.errors import ConfigError, SharedStateLost
from manyhands_shared.protocol.messages.coordination import CONNECTS
from manyhands_shared.shm.segment import new_file


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each program that would begin; none does."""
    noted: list[str] = []

    def begin() -> None:
        noted.append("a program")
        raise ConfigError("there is no cluster")

    monkeypatch.setattr(membership, "_begin", begin)
    return noted


def test_objects_of_a_program_that_has_ended_are_lost(begun: list[str]) -> None:
    with local_members():
        lock, event, queue = Lock(), Event(), Queue()
        assert lock.acquire()
        event.set()
        queue.put("item")
    for use, label in (
        (lock.release, "Lock"),
        (lock.acquire, "Lock"),
        (event.is_set, "Event"),
        (queue.qsize, "Queue"),
        (lambda: queue.put("more"), "Queue"),
    ):
        with pytest.raises(
            SharedStateLost, match=f"^this {label} was lost: the program has ended$"
        ):
            use()
    ends.withdraw([bytes(16)])
    assert begun == []
    with pytest.raises(ConfigError, match="there is no cluster"):
        Lock().acquire()
    assert begun == ["a program"]


def test_the_thread_that_looks_for_items_begins_no_program(begun: list[str]) -> None:
    with local_members():
        queue: Any = Queue()
        queue.put("item")
        descriptor = queue._reader.fileno()
        assert select.select([descriptor], [], [], 100)[0] == [descriptor]
        assert queue.get() == "item"
        assert select.select([descriptor], [], [], 0)[0] == []
    # It wakes up, at the latest, when this end looks once more.
    queue._reader.looked()
    assert select.select([descriptor], [], [], 100)[0] == [descriptor], "it says so"
    assert begun == []


def test_memory_that_is_left_begins_no_program(begun: list[str]) -> None:
    segment = Segment(bytes(16), 16, None, new_file(16), known=True)
    segments.sync_writes()
    with pytest.raises(SharedStateLost, match="the program has ended"):
        segment.pass_on()
    assert begun == []
    segment.close_descriptor()


def test_what_was_pickled_in_a_program_that_has_ended_leads_nowhere(
    begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bytes(16)
    with local_members():
        pass
    monkeypatch.setattr(membership, "secret", lambda: SECRET)
    with pytest.raises(SharedStateLost, match="the program has ended"):
        ends.claim((key, key, CONNECTS, SECRET), "connection")
    with pytest.raises(SharedStateLost, match="the program has ended"):
        segments.find(key, "an array")
    with pytest.raises(ConnectionRefusedError, match="the program has ended"):
        connect(f"mh:{key.hex()}{key.hex()}")
    assert begun == []


def test_who_asks_for_a_descriptor_hears_why_there_is_no_program(begun: list[str]) -> None:
    queue: Any = Queue()
    with pytest.raises(ConfigError, match="there is no cluster"):
        queue._reader.fileno()
    assert begun == ["a program"]
