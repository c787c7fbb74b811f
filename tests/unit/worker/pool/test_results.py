"""Results of every kind and size come back equal, by whichever way they take."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.pool.pool_rig import PoolRig
from manyhands_shared.payloads import refs
from manyhands_shared.protocol.status import Status
from manyhands_worker.core import events
from manyhands_worker.ipc import control_block
from manyhands_worker.ipc.slab import SlabError, SlabLedger, SlabWriter, new_slab

_DTYPES: list[Any] = [
    "u1",
    "<f8",
    ">i4",
    "c16",
    "?",
    "S7",
    "U5",
    "M8[us]",
    "f2",
    [("a", "i4"), ("b", "f8", 3)],
]


def _same(value: Any) -> Any:
    return value


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, np.ndarray):
        # NumPy itself gives back the machine's byte order where it copies into a pickle.
        same_kind = one.dtype.newbyteorder("=") == two.dtype.newbyteorder("=")
        return same_kind and one.shape == two.shape and np.array_equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(two) and all(map(_equal, one, two))
    return bool(one == two)


@pytest.mark.parametrize("slab_bytes", [0, 4 << 20])
def test_arrays_of_every_kind(rig: Callable[..., PoolRig], slab_bytes: int) -> None:
    pool = rig(slab_bytes=slab_bytes)
    values: list[Any] = []
    for dtype in _DTYPES:
        flat = np.zeros(30_000, dtype=dtype)
        flat.view("u1")[:] = np.arange(flat.nbytes) % 2
        values += [
            flat,
            flat.reshape(100, 300).T,
            flat[::3],
            np.asfortranarray(flat.reshape(300, 100)),
        ]
        values += [flat[0:0], flat[5:6].reshape(()), flat[:9]]
    values.append(({"x": values[0], "y": (values[1], 3)}, "text", np.float64(2.5)))
    values.append(np.array([{"an": "object"}, None], dtype=object))
    for value in values:
        status, back = pool.call(_same, value)
        assert status == Status.OK
        assert _equal(value, back)


def test_order_of_memory_is_kept(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    for order in "CF":
        _, back = pool.call(lambda o: np.ones((500, 400), order=o), order)
        assert back.flags[f"{order}_CONTIGUOUS"]


def test_large_results_pass_through_the_slab_and_its_room_comes_back(
    rig: Callable[..., PoolRig],
) -> None:
    pool = rig(slab_bytes=4 << 20)
    pool.keep_blocks = True
    make = lambda n, v: np.full(n, v, "u1")  # noqa: E731 - a function that travels by value
    mib = 1 << 20
    for value in range(3):
        assert pool.call(make, mib, value)[1].sum() == value * mib
    assert len(pool.blocks) == 3
    # Full: the next one goes through the pipe, and is right as well.
    assert pool.call(make, 2 * mib, 5)[1].sum() == 10 * mib
    assert len(pool.blocks) == 3
    # Freed out of order: nothing is gained before the first.
    pool.blocks[1].free()
    assert pool.call(make, 2 * mib, 6)[1].sum() == 12 * mib
    assert len(pool.blocks) == 3
    pool.blocks[0].free()
    pool.call(make, 3 * mib // 2, 7)
    assert len(pool.blocks) == 4
    pool.free()
    for value in range(30):
        assert set(pool.call(make, mib + value, value)[1]) == {value}
        pool.free()
    assert not pool.deaths()


def _as_if_it_had_waited() -> None:
    refs._Process.waited += 3_600 * 10**9


def test_the_time_that_stored_values_take_to_come_is_not_the_tasks(
    rig: Callable[..., PoolRig],
) -> None:
    pool = rig()
    pool.call(_as_if_it_had_waited)
    pool.call(sum, range(10**6))
    waited, worked = (event.seconds for event in pool.events if isinstance(event, events.Finished))
    assert waited == 0 < worked


def test_result_ten_times_its_slab(rig: Callable[..., PoolRig]) -> None:
    pool = rig(slab_bytes=1 << 20)
    status, back = pool.call(lambda: np.arange(10 << 17))
    assert status == Status.OK
    assert np.array_equal(back, np.arange(10 << 17))


def test_result_beyond_what_a_message_may_carry(rig: Callable[..., PoolRig]) -> None:
    pool = rig(frame_bytes=1 << 20)
    status, failure = pool.call(lambda: bytes(2 << 20))
    assert status == Status.UNSENDABLE
    assert "of type bytes" in failure.message
    assert "more than 1048576 bytes" in failure.message
    assert pool.call(lambda: bytes(1 << 19))[0] == Status.OK


def test_many_small_buffers_and_large_pickles(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    assert len(pool.call(lambda: [np.arange(10) for _ in range(5_000)])[1]) == 5_000
    assert pool.call(lambda: list(range(200_000)))[1][-1] == 199_999


def test_arguments_arrive_writable(rig: Callable[..., PoolRig]) -> None:
    def change(array: np.ndarray) -> float:
        array[0] = 7
        return float(array[0])

    assert rig().call(change, np.zeros(100_000)) == (Status.OK, 7.0)


def test_death_of_a_child_leaves_what_it_had_delivered(
    rig: Callable[..., PoolRig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = rig(slab_bytes=4 << 20)
    pool.keep_blocks = True
    views: list[tuple[Any, ...]] = []
    take = pool._take

    def keep(event: events.Event) -> None:
        if isinstance(event, events.Finished):
            views.extend(body for body in event.bodies if isinstance(body, tuple))
        take(event)

    monkeypatch.setattr(pool, "_take", keep)
    pool.call(lambda: np.full(1 << 20, 3, "u1"))
    old = pool.pool.pid(0)
    pool.pool.kill(0)
    pool.until(pool.deaths)
    for _ in range(5):  # its successor has a slab of its own
        pool.call(lambda: np.full(1 << 20, 9, "u1"))
    assert pool.pool.pid(0) != old
    assert set(bytes(views[0][1])) == {3}


@pytest.mark.parametrize("word", range(4), ids=["serial", "position", "bytes", "mark"])
def test_a_block_that_was_not_written_to_its_end_is_not_taken(word: int) -> None:
    slab, words = new_slab(1 << 20), control_block.words(control_block.new_block())
    writer, ledger = SlabWriter(slab, words), SlabLedger(slab, words)
    data = memoryview(bytes(range(200)))
    position = writer.write(7, [data])
    assert position is not None
    header = memoryview(slab).cast("B")[:32].cast("Q")
    whole = header[word]
    header[word] = 0 if whole else 1
    with pytest.raises(SlabError, match="unfinished"):
        ledger.take(7, 7, position, [200])
    header[word] = whole
    with pytest.raises(SlabError, match="unfinished"):
        ledger.take(8, 9, position, [200])
    assert bytes(ledger.take(7, 7, position, [200])[1][0]) == bytes(data)


def test_idle_slab_takes_no_memory() -> None:
    slabs = [new_slab(64 << 20) for _ in range(4)]
    mine = [entry for entry in Path("/proc/self/fd").iterdir() if "pym-" in _target(entry)]
    large = [info for info in map(_stat, mine) if info is not None and info.st_size == 64 << 20]
    assert len(large) >= len(slabs)
    assert sum(info.st_blocks for info in large) == 0


def _stat(entry: Path) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # closed since it was listed
        return None


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""
