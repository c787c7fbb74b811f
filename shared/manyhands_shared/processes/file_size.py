"""The limit on the size of files, `ulimit -f`: it holds for memory that processes share, too."""

from __future__ import annotations

import resource

from manyhands_shared.errors import ConfigError

#: `multiprocessing` takes shared memory in pieces of this size.
_LEAST = 4 << 20
_UNLIMITED = 1 << 60


def limit() -> int:
    """Return the bytes that a file of this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def check() -> None:
    """Check that processes can share memory at all.

    Raises:
        ConfigError: the limit is too low.
    """
    if limit() < _LEAST:
        raise ConfigError(
            f"files may have {limit() >> 10} KiB here, and so may the memory that processes share; "
            f"it takes {_LEAST >> 10} KiB: raise the limit (`ulimit -f`)"
        )
