"""Telling from a function's payload alone that its tasks are programs: a node loads no functions."""

from __future__ import annotations

from manyhands_shared.payloads.payload import Payload

_MODULE = b"manyhands_shared.programs.task"
#: A payload that names a function is shorter; one that brings a function may name anything in it.
_NAME_BYTES = 100


def runs_programs(code: Payload) -> bool:
    """Whether a function is the one that runs programs, by its name in a pickle or a safe job."""
    return type(code) is bytes and len(code) <= _NAME_BYTES and _MODULE in code
