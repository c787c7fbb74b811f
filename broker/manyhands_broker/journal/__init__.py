"""What the broker writes down before it says anything.

The loop appends the records of a whole drain, commits once, and only then sends: group commit. Every
journal passes the same conformance tests (`tests/unit/broker/journal/test_journal.py`).

- `interface`: what a journal does, and how it fails.
- `memory`: survives nothing. `sqlite`: survives kill -9 and power loss.
- `packing`: payloads as bytes; `files`: large payloads, content-addressed, beside the database.
"""

from manyhands_broker.journal.interface import (
    Journal,
    JournalBroken,
    JournalFull,
)
from manyhands_broker.journal.memory import MemoryJournal

__all__ = [
    "Journal",
    "JournalBroken",
    "JournalFull",
    "MemoryJournal",
]
