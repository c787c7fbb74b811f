"""The write-ahead log of a broker's objects as worlds keep it: the last record of each key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack

from manyhands_broker.coordination.effects import Write
from manyhands_broker.coordination.records import RecordKind


class ObjectLog(dict[tuple[RecordKind, bytes], Any]):
    """Packed records by kind and key, in the order of their last write."""

    def write(self, effects: Iterable[object]) -> None:
        """Write what a drain wants written; a record without payload takes its key out."""
        for effect in effects:
            if isinstance(effect, Write):
                key = effect.record.kind, effect.record.key
                self.pop(key, None)
                if effect.record.payload is not None:
                    self[key] = msgpack.packb(effect.record.payload)
