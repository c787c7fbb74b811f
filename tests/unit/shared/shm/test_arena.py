"""Segments side by side: few descriptors, room used again, memory given back."""

from __future__ import annotations

import gc
import itertools
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from manyhands_shared import shm
from manyhands_shared.processes import descriptors
from manyhands_shared.shm import arena as shelves

pytestmark = pytest.mark.skipif(not shm.AVAILABLE, reason="memory is lent on Linux only")

MIB = 1 << 20


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """There are a few left, and that is less than a quarter."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 4, usual[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def _open() -> set[str]:
    gc.collect()
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers are wanted


def _pages(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def test_many_segments_take_few_descriptors_and_overlap_nowhere() -> None:
    before = _open()
    arena = shm.Arena()
    spots = [arena.place(MIB + 1000) for _ in range(500)]
    assert len(_open() - before) <= 500 // 40
    taken: dict[int, list[tuple[int, int]]] = {}
    for spot in spots:
        assert spot is not None
        assert shm.fits(spot.fd, spot.size, spot.at)
        taken.setdefault(spot.fd, []).append((spot.at, spot.at + spot.size))
    for ranges in taken.values():
        ranges.sort()
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(ranges))
    for spot in spots:
        assert spot is not None
        arena.free(spot)
    assert _open() <= before


def test_room_is_used_again_and_memory_given_back() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    before = _open()
    arena = shm.Arena()
    kept: dict[shm.Allocation, bytes] = {}
    for number in range(600):
        if kept and chance.random() < 0.55:
            spot = chance.choice(list(kept))
            content = os.pread(spot.fd, 8, spot.at)
            assert content == kept.pop(spot)
            arena.free(spot)
        else:
            found = arena.place(chance.randrange(1, 2 * shelves.LARGEST))
            assert found is not None
            kept[found] = number.to_bytes(8, "little")
            os.pwrite(found.fd, kept[found], found.at)
        used = sum(_pages(fd) for fd in {spot.fd for spot in kept})
        assert used <= sum(spot.size for spot in kept) + len(kept) * 4096
    for spot in list(kept):
        arena.free(spot)
    assert _open() <= before


@pytest.mark.parametrize("size", [1 * MIB, 2 * shelves.LARGEST])
def test_too_few_descriptors_are_no_place(few_descriptors: None, size: int) -> None:
    before = _open()
    assert descriptors.running_short()
    assert shm.Arena().place(size) is None
    assert _open() <= before


def test_a_closed_standard_input_is_no_lack_of_descriptors() -> None:
    program = """
import os
from manyhands_shared.processes.descriptors import running_short
os.close(0)
assert not running_short()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_mapped_takes_no_descriptor() -> None:
    fd = shm.new_segment(MIB)
    os.pwrite(fd, b"there", MIB - 4096)
    before = _open()
    views = [shm.private_view(fd, 4096, at=MIB - 4096) for _ in range(50)]
    views += [shm.shared_view(fd, 4096, at=MIB - 4096) for _ in range(50)]
    assert _open() <= before
    os.close(fd)
    assert all(bytes(view[:5]) == b"there" for view in views)
    views[0][:5] = b"other"  # private
    assert bytes(views[1][:5]) == bytes(views[-1][:5]) == b"there"
    assert views[-1].readonly


def test_a_mapping_beyond_the_end_is_refused() -> None:
    fd = shm.new_segment(4096)
    with pytest.raises((ValueError, OSError)):
        shm.private_view(fd, 8192)
    os.close(fd)


def test_the_limit_is_raised_for_this_process_and_lowered_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(descriptors._Limit, "before", 0)
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, usual[1]))
        descriptors.raise_limit()
        descriptors.raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
        assert descriptors.usual() == 256
        descriptors.limit(descriptors.usual())
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, usual[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
