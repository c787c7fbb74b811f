"""What is removed of the environments of a host, and what is not."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from manyhands_worker.environments import directory


def environment(root: Path, name: str, used: float, *, whole: bool = True) -> Path:
    """Make an environment of 100 bytes."""
    place = root / name
    place.mkdir()
    (place / "module.py").write_bytes(bytes(100))
    directory.lock_file(place).touch()
    if whole:
        directory.write_mark(place, {"bytes": 100, "path": []})
        os.utime(place / "manyhands.json", (used, used))
    return place


def names(root: Path) -> set[str]:
    return {place.name for place in root.iterdir() if place.is_dir()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        environment(tmp_path, f"e{number}", 1_000.0 + number)
    return tmp_path


def test_those_used_longest_ago_are_removed(root: Path) -> None:
    directory.trim(root, root / "e3", most=3)
    assert names(root) == {"e1", "e2", "e3"}
    directory.used(root / "e1")
    directory.trim(root, root / "e3", most=9, limit=250)
    assert names(root) == {"e1", "e3"}
    # The one that was just made stays in any case.
    directory.trim(root, root / "e3", most=0)
    assert names(root) == {"e3"}
    assert directory.read_mark(root / "e3") == {"bytes": 100, "path": []}


def test_what_a_node_uses_stays(root: Path) -> None:
    with directory.lock_file(root / "e0").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        directory.trim(root, root / "e3", most=2)
        assert names(root) == {"e0", "e3"}


def test_a_torn_one_is_removed_unless_it_is_being_made(root: Path) -> None:
    environment(root, "torn", 0.0, whole=False)
    made = environment(root, "made", 0.0, whole=False)
    with directory.lock_file(made).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory.trim(root, root / "e3")
    assert names(root) == {"e0", "e1", "e2", "e3", "made"}
    assert directory.read_mark(made) is None


@pytest.mark.parametrize(
    "mark",
    [
        *("", "{", "[]", "{}", '{"bytes": 100}', '{"path": []}', '{"bytes": 100, "path": null}'),
        *('{"bytes": "all", "path": []}', '{"bytes": 100, "path": [1]}'),
    ],
)
def test_an_environment_whose_mark_was_changed_is_not_whole(root: Path, mark: str) -> None:
    assert directory.read_mark(root / "e0") == {"bytes": 100, "path": []}
    (root / "e0" / "manyhands.json").write_text(mark)
    assert directory.read_mark(root / "e0") is None
    directory.trim(root, root / "e3")
    assert names(root) == {"e1", "e2", "e3"}


def test_the_name_depends_on_all_that_is_in_it() -> None:
    known = {
        directory.name_of(lines, path)
        for lines, path in ((["a"], ["/p"]), (["b"], ["/p"]), (["a"], ["/q"]), ([], ["/p", "a"]))
    }
    assert len(known) == 4
    assert directory.name_of(("a",), ["/p"]) in known


def test_the_node_path_has_manyhands_and_what_is_installed() -> None:
    path = directory.node_path()
    for module in (directory, pytest):
        assert any(str(module.__file__).startswith(folder) for folder in path)
