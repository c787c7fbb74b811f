"""Where environments lie on a host, and how its nodes share them.

Each has a directory, named by all that it depends on, and beside it a file that is locked. Who makes it
holds the lock alone; nodes that use it share the lock. An environment is whole once its mark is there,
which is written last and removed first. A directory without one was left by a process that was killed.

It is not made elsewhere and moved: its programs have its path in their first line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Environments on a host, and their bytes, beyond which those used longest ago are removed.
MAX_COUNT, MAX_BYTES = 32, 32 << 30
_MARK = "manyhands.json"
_OURS = "manyhands", "manyhands_broker", "manyhands_worker", "manyhands_shared"


def default() -> Path:
    """Return where environments lie unless the node was told otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(cache) / "manyhands" / "environments"


def node_path() -> list[str]:
    """Return where the node's own modules are: what is installed, and manyhands itself."""
    import site  # noqa: PLC0415 - 2 ms, for nodes with such jobs

    folders = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    for name in _OURS:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            folders.append(str(Path(spec.origin).parent.parent))
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]  # noqa: PTH112 - as text


def name_of(requirements: Sequence[str], path: Sequence[str]) -> str:
    """Return the name of an environment: a digest of all that it depends on.

    Args:
        requirements: what is installed.
        path: see `node_path`.
    """
    parts = [sys.version, sysconfig.get_platform(), sys.base_prefix, *path, "", *requirements]
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def lock_file(place: Path) -> Path:
    """Return the file that is locked for an environment."""
    return place.with_name(f"{place.name}.lock")


def read_mark(place: Path) -> dict[str, Any] | None:
    """Return what an environment's mark says; None if it is not whole."""
    try:
        mark = json.loads((place / _MARK).read_bytes())
    except (OSError, ValueError):
        return None
    return mark if _is_mark(mark) else None


def _is_mark(found: object) -> bool:
    """Whether this is what `write_mark` was given. The file may have been changed since."""
    if not isinstance(found, dict):
        return False
    size, path = found.get("bytes"), found.get("path")
    is_path = isinstance(path, list) and all(isinstance(entry, str) for entry in path)
    return is_path and type(size) is int


def write_mark(place: Path, mark: dict[str, Any]) -> None:
    """Say that an environment is whole."""
    draft = place / f"{_MARK}.draft"
    draft.write_text(json.dumps(mark))
    draft.rename(place / _MARK)


def used(place: Path) -> None:
    """Note that an environment is used now."""
    with contextlib.suppress(OSError):
        os.utime(place / _MARK)


def remove(place: Path) -> None:
    """Remove an environment that this process has locked."""
    (place / _MARK).unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)


def trim(root: Path, keep: Path, most: int = MAX_COUNT, limit: int = MAX_BYTES) -> None:
    """Remove environments that no node uses: torn ones, and of the others those used longest ago.

    Args:
        root: where they lie.
        keep: the one that was just made.
        most: how many may stay.
        limit: how many bytes they may take together.
    """
    whole: list[tuple[float, int, Path]] = []
    for place in _environments(root):
        mark = read_mark(place)
        if mark is None:
            if place != keep:
                _remove_unused(place)
            continue
        with contextlib.suppress(OSError):
            whole.append(((place / _MARK).stat().st_mtime, int(mark["bytes"]), place))
    count, total = len(whole), sum(size for _, size, _ in whole)
    for _, size, place in sorted(whole):
        if count <= most and total <= limit:
            return
        if place != keep and _remove_unused(place):
            count, total = count - 1, total - size


def size_of(place: Path) -> int:
    """Return the bytes of all files below a directory."""
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - as text
    return total


def _environments(root: Path) -> Iterable[Path]:
    return [lock.with_suffix("") for lock in root.glob("*.lock") if lock.with_suffix("").is_dir()]


def _remove_unused(place: Path) -> bool:
    """Remove an environment unless a process makes or uses it; return whether it is gone."""
    with lock_file(place).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        remove(place)
    return True
