"""What may be asked with `Query`, and what goes with each question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyhands_shared.protocol import bounds
from manyhands_shared.protocol.bounds import MAX_INDEX, Bound, Bytes, Flag, Float, Int, Text

#: Longer than an id: who asks for what cannot be is told so.
_ID = Text(200)
_INDEX = Int("index", 0, MAX_INDEX)
_SEQ = Int("seq", 0, (1 << 53) - 1)

#: Question or order → its arguments; of these `_NEEDED` must be there.
QUESTIONS: Mapping[str, Mapping[str, Bound]] = {
    "agent": {
        "host_id": Text(200),
        "program": Bytes("id16", 16),
        "root": Bytes("id16", 16),
        "member_key": Bytes("key32", 32),
    },
    "backup": {"directory": Text(4_096, 1), "begin": Flag()},
    "cancel": {"id": _ID},
    "dashboard": {},
    "drain": {"node": Text(200)},
    "events": {},
    "forget": {"id": _ID},
    "health": {},
    "history": {"id": _ID},
    "job": {"id": _ID},
    "jobs": {"skip": _INDEX, "limit": _INDEX, "begins": Text(200)},
    "nodes": {},
    "nodes_of": {"id": _ID},
    "output": {"id": _ID, "limit": _INDEX, "after": _SEQ, "task": _INDEX},
    "pause": {"id": _ID},
    "ps": {"skip": _INDEX},
    "report": {"text": Text(24_000, 1)},
    "resume": {"id": _ID},
    "retry": {"id": _ID, "new_id": Text(64, 1, word=True)},
    "stacks": {"id": _ID, "task": _INDEX, "on_node": Text(200), "seconds": Float("seconds", 0, 60)},
    "stacks_of_node": {"node": Text(200)},
    "standstill": {},
    "stats": {},
    "view": {"view": Text(32), "seq": _SEQ},
    "why": {"id": _ID},
    "why_process": {"id": _ID},
}
_NEEDED = frozenset(
    {"directory", "host_id", "id", "member_key", "node", "program", "root", "text", "view"}
)


def refuse(what: str, arguments: Mapping[str, Any]) -> str:
    """Return why a question cannot be answered as it is put, in a sentence; empty if it can."""
    known = QUESTIONS.get(what)
    if known is None:
        return f"unknown question {what!r}"
    for name, value in arguments.items():
        if name not in known:
            return f"{what!r} takes no argument {name[:80]!r}"
        if not bounds.check(known[name])(value):
            return f"{what!r}: {name!r} cannot be {value!r:.80}: {known[name].limit}"
    missing = [name for name in known if name in _NEEDED and name not in arguments]
    return f"{what!r} takes an argument {missing[0]!r}" if missing else ""
