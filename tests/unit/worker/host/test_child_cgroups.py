"""The groups of a node's children, and what it writes where memory is delegated to it.

For memory, plain directories stand for the groups: a kernel that has it in version 1 has none in 2.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from manyhands_worker.host.child_cgroups import ChildCgroup, delegate_memory
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


def test_groups_that_a_task_has_made_go_with_its_child() -> None:
    groups = ChildCgroup.make()
    if groups is None:
        pytest.skip("needs a control group of version 2 that it may divide")
    # As a node that a task has started leaves them when it is killed.
    for child in (17, 18):
        (groups.path / f"{child}/manyhands-19-00000000/20").mkdir(parents=True)
    groups.leave(17)
    assert not (groups.path / "17").exists()
    groups.close()
    assert not groups.path.exists()


def test_so_they_do_after_the_end_of_a_node_that_was_killed() -> None:
    groups = ChildCgroup.make()
    if groups is None:
        pytest.skip("needs a control group of version 2 that it may divide")
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = groups.path.with_name(f"manyhands-{gone.pid}-00000000")
    (left / "17/manyhands-18-00000000/19").mkdir(parents=True)
    again = ChildCgroup.make()
    assert again is not None
    assert not left.exists()
    for each in (groups, again):
        each.close()
