"""Where the children of a node find the modules that clients have sent along.

Bundles lie in the node's directory for temporary files, which goes with the node. Those used longest
ago are removed when they take too much room, and are unpacked again if they are needed again.
"""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Collection
from multiprocessing import util
from pathlib import Path

#: Bytes of bundles on disk.
MAX_BYTES = 256 << 20


class BundleDirectories:
    """The directories of bundles, by their digests.

    Args:
        limit: bytes that they may take together; those in use always may.
    """

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._known: OrderedDict[bytes, tuple[Path, int]] = OrderedDict()

    def use(self, digest: bytes, nbytes: int, in_use: Collection[bytes]) -> Path:
        """Return the directory of a bundle, whether it is there yet or not; remove what is too much.

        Args:
            digest: the bundle's.
            nbytes: what it takes.
            in_use: bundles that children have.
        """
        directory, _ = self._known.get(digest) or (_scratch() / f"code-{digest.hex()}", 0)
        if not directory.parent.is_dir():
            # A cleaner of temporary files has been here.
            directory = _scratch() / directory.name
        self._known[digest] = directory, nbytes
        self._known.move_to_end(digest)
        total = sum(size for _, size in self._known.values())
        for old in [known for known in self._known if known != digest and known not in in_use]:
            if total <= self._limit:
                break
            gone, size = self._known.pop(old)
            total -= size
            shutil.rmtree(gone, ignore_errors=True)
        return directory


def _scratch() -> Path:
    return Path(util.get_temp_dir())
