"""What calls of a pool raise, as the standard library's pool raises it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from manyhands_shared.errors import RemoteError, ResultError


def as_pool_raises(error: BaseException) -> BaseException:
    """Return an exception of a task as `multiprocessing.Pool` would raise it, with the traceback there.

    A result that cannot be pickled is a `MaybeEncodingError`. `sys.exit` in a task is a `RemoteError`,
    and so is any other that is no `Exception`: it must not end the program of the caller.
    """
    from manyhands_shared.standard_errors import (  # noqa: PLC0415 - 8 ms
        RemoteTraceback,
        alike,
    )

    # Not all of it is declared.
    pool: Any = import_module("multiprocessing.pool")  # 6 ms
    cause, made = error.__cause__, error
    if isinstance(error, SystemExit):
        code = "" if error.code is None else repr(error.code)
        made = RemoteError(f"SystemExit: the task called sys.exit({code:.200})")
        made.type_name = "SystemExit"
    elif not isinstance(error, Exception):
        kind = type(error).__name__
        made = RemoteError(f"{kind}: {error}" if str(error) else kind)
        made.type_name = kind
    elif isinstance(error, ResultError) and len(error.remote_args) == 2:
        theirs = pool.MaybeEncodingError(None, None)
        theirs.exc, theirs.value = error.remote_args
        made = alike(ResultError, str(error), theirs)
    if isinstance(cause, RemoteTraceback):
        cause = pool.RemoteTraceback(str(cause))
    made.__cause__ = cause
    return made
