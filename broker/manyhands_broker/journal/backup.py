"""A whole copy of a journal, made while the broker uses it.

It is made in small steps between the turns of the broker's loop. SQLite's backup carries over what is
written meanwhile, so that the copy is the journal of the moment in which its last page was copied. No
payload file that this moment refers to is removed before it is copied, and each is proven whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import apsw

from manyhands_broker.core.store import Damaged
from manyhands_broker.journal.files import PayloadFiles, sync_directory
from manyhands_shared.errors import ManyhandsError

#: Pages copied in one step: a millisecond or two.
_STEP_PAGES = 256


class Backup:
    """Copies into `place`, a directory that is not there yet or is empty.

    Raises:
        OSError: it cannot be made, or holds something.
    """

    def __init__(self, source: apsw.Connection, files: PayloadFiles, place: Path) -> None:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise FileExistsError(f"{place} is not empty")
        self.place = place
        #: Whether all is copied; why it failed; pages and files copied; files that were damaged.
        self.done = False
        self.error = ""
        self.pages = self.files = 0
        self.damaged: list[str] = []
        self._source = source
        self._payloads = files
        self._steps = self._copy()

    @property
    def report(self) -> dict[str, Any]:
        """How far it is, in plain values."""
        return {
            "directory": str(self.place),
            "done": self.done,
            "pages": self.pages,
            "files": self.files,
            "damaged": self.damaged[:100],
        }

    def step(self) -> None:
        """Copy a little more; once it is `done`, or there is an `error`, nothing is left to do."""
        try:
            next(self._steps, None)
        except (OSError, apsw.Error, ManyhandsError) as error:
            self.error = f"cannot copy the journal to {self.place}: {error}"

    def close(self) -> None:
        """Give up what is not done."""
        self._steps.close()

    def _copy(self) -> Generator[None, None, None]:
        draft = self.place / "journal.db.draft"
        with contextlib.closing(apsw.Connection(str(draft))) as target:
            draft.chmod(0o600)
            with target.backup("main", self._source, "main") as backup:
                while not backup.done:
                    backup.step(_STEP_PAGES)
                    self.pages = backup.page_count - backup.remaining
                    yield
            target.execute("UPDATE meta SET value = 0 WHERE key = 'open'")
            names = [name for (name,) in target.execute("SELECT DISTINCT name FROM files")]
        copies = PayloadFiles(self.place / "payloads")
        for name in names:
            body = self._payloads.get(name)
            if isinstance(body, Damaged):
                self.damaged.append(body.reason)
            else:
                copies.put(body)
                self.files += 1
            yield
        copies.sync()
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(self.place / "journal.db")
        sync_directory(self.place)
        sync_directory(self.place.parent)
        self.done = True
