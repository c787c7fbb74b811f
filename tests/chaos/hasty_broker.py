"""A broker that acknowledges before it commits, to prove that the ledger can fail.

Its journal takes everything and writes it once a second; so what it says is true only a moment later.
"""

from __future__ import annotations

import sys
import time

from manyhands_broker.__main__ import main
from manyhands_broker.journal.sqlite import SqliteJournal

_honest = SqliteJournal.commit
_last = time.monotonic()


def _hasty(self: SqliteJournal) -> None:
    global _last  # noqa: PLW0603 - one journal, one clock
    if time.monotonic() > _last + 1.0:
        _last = time.monotonic()
        _honest(self)


if __name__ == "__main__":
    SqliteJournal.commit = _hasty  # type: ignore[method-assign]
    sys.exit(main())
