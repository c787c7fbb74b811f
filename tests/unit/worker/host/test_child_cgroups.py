"""What a node writes where memory of control groups, version 2, is delegated to it.

Plain directories stand for the groups: a kernel with memory in version 1 has none in version 2.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manyhands_worker.host.child_cgroups import delegate_memory
from manyhands_worker.host.memory_groups import MemoryGroups

ME = str(os.getpid())


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The group of a node that is alone in it, with one for its children."""
    (tmp_path / "children").mkdir()
    (tmp_path / "cgroup.procs").write_text(f"{ME}\n")
    for name in ("cgroup.subtree_control", "children/cgroup.controllers"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_a_node_that_is_alone_makes_room_and_its_children_have_limits(here: Path) -> None:
    delegate_memory(here, here / "children")
    aside = here / f"manyhands-{ME}-node"
    assert (aside / "cgroup.procs").read_text() == ME
    for group in (here, here / "children"):
        assert (group / "cgroup.subtree_control").read_text() == "+memory"


def test_where_the_groups_have_memory_already_it_stays(here: Path) -> None:
    (here / "children/cgroup.controllers").write_text("cpu memory pids\n")
    delegate_memory(here, here / "children")
    assert not (here / f"manyhands-{ME}-node").exists()
    assert (here / "children/cgroup.subtree_control").read_text() == "+memory"


def test_among_others_it_moves_nobody(here: Path) -> None:
    (here / "cgroup.procs").write_text(f"1\n{ME}\n")
    delegate_memory(here, here / "children")
    assert not (here / f"manyhands-{ME}-node").exists()
    assert not (here / "children/cgroup.subtree_control").exists()


def test_children_have_no_limits_where_memory_is_not_delegated(here: Path) -> None:
    (here / "children/cgroup.subtree_control").write_text("cpu\n")
    groups = MemoryGroups.make(here / "children")
    assert groups is None or groups.path.parent != here
    if groups is not None:
        groups.close()
    (here / "children/cgroup.subtree_control").write_text("cpu memory\n")
    groups = MemoryGroups.make(here / "children")
    assert groups is not None
    assert groups.path == here / "children"
