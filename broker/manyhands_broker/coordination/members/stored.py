"""Programs and members as the log holds them, and back."""

from __future__ import annotations

from typing import Any

from manyhands_broker.coordination.model import Member, Output, Phase, Program
from manyhands_broker.coordination.state import CoordinationState


def pack_program(program: Program, state: CoordinationState) -> list[Any]:
    """Return a program in plain values."""
    return [
        program.root,
        program.host,
        program.member_key,
        program.account,
        program.by_key,
        program.info,
        program.began + state.epoch,
        program.ending,
    ]


def unpack_program(key: bytes, payload: list[Any], state: CoordinationState) -> Program:
    """Return the program that was packed."""
    root, host, member_key, account, by_key, info, began, ending = payload
    program = Program(key, root, host, member_key)
    program.account, program.by_key, program.info = account, by_key, info
    program.began = began - state.epoch
    program.ending = ending
    return program


def pack_member(member: Member, state: CoordinationState) -> list[Any]:
    """Return a member in plain values. What starts it is not kept: its parent's agent has it."""
    return [
        member.program.id,
        member.parent,
        member.name,
        member.host,
        member.node,
        member.writer,
        int(member.phase),
        member.pid,
        member.code,
        member.reason,
        member.host_lost,
        member.since + state.epoch,
        # Its agent says this again of one that lives.
        [] if member.living else [[n, o.taken, o.said] for n, o in member.output.items()],
    ]


def unpack_member(
    key: bytes, payload: list[Any], program: Program, state: CoordinationState
) -> tuple[Member, bytes]:
    """Return the member that was packed, and the id of its agent."""
    _, parent, name, host, node, agent, phase, pid, code, reason, host_lost, since, output = payload
    member = Member(key, program, parent)
    member.name, member.host, member.node = name, host, node
    member.phase = Phase(phase)
    member.pid, member.code, member.reason = pid, code, reason
    member.by_signal, member.host_lost = code < 0, host_lost
    member.since = since - state.epoch
    member.output = {stream: Output(taken, said, None) for stream, taken, said in output}
    if not member.living:
        member.writer = agent
    return member, agent
