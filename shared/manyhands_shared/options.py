"""What a job asks for, as it travels in `SubmitGroup.options`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from manyhands_shared.errors import ProtocolError

MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options of one job; keys left out have these defaults.

    - `name`: for people; escaped wherever it is shown.
    - `priority`: higher first, within the whole broker.
    - `tasks_per_child`: a child is replaced after this many tasks of the job's client (0: never).
    """

    name: str = ""
    priority: int = 0
    tasks_per_child: int = 0

    def to_map(self) -> dict[str, Any]:
        """Only what differs from the defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> JobOptions:
        """Check and build.

        Raises:
            ProtocolError: an unknown key or a value of the wrong kind or range.
        """
        for key, value in values.items():
            check = _CHECKS.get(key)
            if check is None:
                raise ProtocolError(f"unknown job option {key!r}")
            if not check(value):
                raise ProtocolError(f"job option {key!r} cannot be {value!r:.80}")
        return cls(**values)


_CHECKS: Mapping[str, Any] = {
    "name": lambda v: type(v) is str and len(v) <= MAX_NAME_CHARS,
    "priority": lambda v: type(v) is int and -1_000 <= v <= 1_000,
    "tasks_per_child": lambda v: type(v) is int and 0 <= v <= 1_000_000_000,
}
