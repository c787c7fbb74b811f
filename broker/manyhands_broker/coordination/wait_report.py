"""`manyhands ps` and `manyhands why`: programs and members for people, and what each waits for."""

from __future__ import annotations

from itertools import islice
from typing import Any

from manyhands_broker.coordination.model import Member, Phase, Program
from manyhands_broker.coordination.objects.sync_objects import SyncObjects
from manyhands_broker.coordination.state import CoordinationState

#: Members in one answer.
PAGE_MEMBERS = 1_000
#: Hexadecimal digits of an id that are enough to name it.
_LEAST_DIGITS = 4
#: Members that one question looks at: a tenth of a second of the broker's.
_MOST_LOOKED_AT = 200_000


class WaitReport:
    """Answers about programs. An account sees its own; `everything` is for admins."""

    def __init__(self, state: CoordinationState, objects: SyncObjects) -> None:
        self._state = state
        self._objects = objects

    def programs(
        self, account: str, skip: int = 0, *, everything: bool = False
    ) -> list[dict[str, Any]]:
        """Return members of programs behind the first `skip`, a page of them, each with its program."""
        found: list[Member] = []
        for program in self._state.programs.values():
            if not everything and program.account != account:
                continue
            if skip >= len(program.members):
                skip -= len(program.members)
                continue
            room = PAGE_MEMBERS - len(found)
            found += islice(program.members.values(), skip, skip + room)
            skip = 0
            if len(found) >= PAGE_MEMBERS:
                break
        waits = self._objects.waits(found, self._state.now)
        return [self._describe(member, one) for member, one in zip(found, waits, strict=True)]

    def why(self, wanted: str, account: str, *, everything: bool = False) -> list[str]:
        """Return in sentences what a program or member waits for.

        Args:
            wanted: the first digits of its id, or a member's name.
            account: whose question it is.
            everything: whether programs of others may be asked about.

        Raises:
            LookupError: there is no such program or member.
        """
        members = self._find(wanted, account, everything)
        if not members:
            raise LookupError(
                f"no program or process {wanted[:64]!r} here; `manyhands ps` lists them"
            )
        said: list[str] = []
        for member, waits in zip(
            members, self._objects.waits(members, self._state.now), strict=True
        ):
            said += [f"{self._title(member)} {_sentence(one)}" for one in waits]
        return said or [f"{self._title(member)} waits for nothing" for member in members[:1]]

    def _find(self, wanted: str, account: str, everything: bool) -> list[Member]:
        """Return the member, or all of the program, that is called so; the newest programs first."""
        state, digits = self._state, wanted.lower()
        by_id = len(digits) >= _LEAST_DIGITS
        looked = 0
        for program in reversed(state.programs.values()):
            if not everything and program.account != account:
                continue
            if by_id and program.id.hex().startswith(digits):
                return list(islice(program.members.values(), PAGE_MEMBERS))
            for member in program.members.values():
                if (by_id and member.id.hex().startswith(digits)) or member.name == wanted:
                    return [member]
            looked += len(program.members)
            if looked > _MOST_LOOKED_AT:
                raise LookupError(f"there are too many processes to find {wanted[:64]!r} among")
        return []

    def _describe(self, member: Member, waits: list[dict[str, Any]]) -> dict[str, Any]:
        program = member.program
        return {
            "program": program.id.hex(),
            "program_name": _name(program),
            "id": member.id.hex(),
            "parent": member.parent.hex(),
            "name": member.name,
            "node": member.node,
            "pid": member.pid,
            "state": _state(member),
            "since": member.since + self._state.epoch,
            "code": member.code if not member.living else None,
            "waits": [_sentence(one) for one in waits],
        }

    def _title(self, member: Member) -> str:
        where = f"node {member.node}, pid {member.pid}" if member.node else f"pid {member.pid}"
        return f"{member.name} ({where})"


def _state(member: Member) -> str:
    if member.living and member.program.ending:
        return "ending"
    if member.phase == Phase.RUNNING and member.agent is not None and member.agent.peer is None:
        return "unreachable"
    return member.phase.name.lower()


def _name(program: Program) -> str:
    name = program.info.get("name", "")
    return name if isinstance(name, str) else ""


def _sentence(wait: dict[str, Any]) -> str:
    """Return one wait in words; see `SyncObjects.waits` for what it holds."""
    text = f"waits {wait['seconds']:.0f} s for {wait['kind']} {wait['key'][:8]}"
    if wait.get("made"):
        text += f", made at {wait['made']}"
    if wait.get("held_by"):
        text += f"; held by {wait['held_by']}"
    return text
