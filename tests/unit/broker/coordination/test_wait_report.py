"""What `ps` and `why` tell, and to whom."""

from __future__ import annotations

import pytest

from harness.worlds.coordinator import MEMBER_KEY, PROGRAM, ROOT, AgentsWorld
from manyhands_broker.coordination import wait_report
from manyhands_broker.core import ANYBODY, Identity
from manyhands_shared.protocol.messages import coordination as c

ONE, TWO = b"1" * 16, b"2" * 16
ALICE = Identity("a" * 8, "alice", "client")
BOB = Identity("b" * 8, "bob", "client")
WORKER = Identity("w" * 8, "node key", "worker")


@pytest.fixture
def world() -> AgentsWorld:
    """A program of alice's, with a process that runs and one that is being started."""
    world = AgentsWorld()
    for host in "ab":
        world.connect(host, who=WORKER)
    arguments = {"host_id": "a", "program": PROGRAM, "root": ROOT, "member_key": MEMBER_KEY}
    world.coordinator.ask("agent", arguments, ALICE, "key:alice")
    world.begin_program()
    world.run_process(ONE, node="node-b")
    world.start_process(TWO, node="node-b")
    return world


def states(world: AgentsWorld, who: Identity, account: str) -> dict[str, str]:
    found = world.coordinator.ask("ps", {}, who, account)
    return {one["name"]: one["state"] for one in found}


def test_each_sees_its_own_and_admins_all(world: AgentsWorld) -> None:
    all_of_it = {"MainProcess": "running", "Process-1": "running", "Process-2": "starting"}
    assert states(world, ALICE, "key:alice") == all_of_it
    assert states(world, BOB, "key:bob") == {}
    assert states(world, ANYBODY, "") == all_of_it
    with pytest.raises(LookupError):
        world.coordinator.ask("why", {"id": "Process-1"}, BOB, "key:bob")


def test_what_cannot_be_reached_and_what_is_ending_is_said(world: AgentsWorld) -> None:
    world.close("b")
    assert states(world, ANYBODY, "")["Process-1"] == "unreachable"
    world.say("a", c.Ended(ROOT, 0, ""))
    assert states(world, ANYBODY, "")["Process-1"] == "ending"


def test_pages_follow_each_other(world: AgentsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_report, "PAGE_MEMBERS", 2)
    ask = world.coordinator.ask
    pages = [ask("ps", {"skip": skip}, ANYBODY, "") for skip in (0, 2, 4)]
    assert [[one["name"] for one in page] for page in pages] == [
        ["MainProcess", "Process-1"],
        ["Process-2"],
        [],
    ]


@pytest.mark.parametrize("wanted", ["Process-1", ONE.hex(), ONE.hex()[:6], ONE.hex().upper()])
def test_a_process_is_found_by_name_or_digits(world: AgentsWorld, wanted: str) -> None:
    [said] = world.coordinator.ask("why", {"id": wanted}, ANYBODY, "")
    assert said == f"Process-1 (node node-b, pid {4_000 + ONE[0]}) waits for nothing"


def test_a_program_is_found_too_and_nothing_by_three_digits(world: AgentsWorld) -> None:
    [said] = world.coordinator.ask("why", {"id": PROGRAM.hex()[:8]}, ANYBODY, "")
    assert said.startswith("MainProcess")
    for wanted in (ONE.hex()[:3], "", "Process-9"):
        with pytest.raises(LookupError, match="manyhands ps"):
            world.coordinator.ask("why", {"id": wanted}, ANYBODY, "")


def test_a_question_looks_at_a_bounded_number(
    world: AgentsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_report, "_MOST_LOOKED_AT", 2)
    with pytest.raises(LookupError, match="too many"):
        world.coordinator.ask("why", {"id": "Process-9"}, ANYBODY, "")
