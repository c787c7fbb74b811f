"""What the journal holds: facts, each written once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job is over; `summary` is what `manyhands jobs` shows of it."""

    job: str
    summary: dict[str, Any]


Record = JobEnded
