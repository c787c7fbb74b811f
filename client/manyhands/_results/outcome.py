"""From how a task ended to a value or an exception, in the thread that asks."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

from manyhands._results.source_lines import with_source
from manyhands_shared.errors import ResultWithheld
from manyhands_shared.payloads import pickled, restricted
from manyhands_shared.payloads import safe as safe_payloads
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol import exceptions
from manyhands_shared.protocol.status import Status


def outcome(
    status: int, body: Payload, *, safe: bool = False, trusted: bool = True
) -> tuple[Any, BaseException | None]:
    """Return what a task came to, a cancelled one to a `CancelledError`; see `load`."""
    if status == Status.CANCELLED:
        return None, CancelledError("the task was cancelled")
    return load(status, body, safe=safe, trusted=trusted)


def load(
    status: int, body: Payload, *, safe: bool = False, trusted: bool = True, exits: bool = False
) -> tuple[Any, BaseException | None]:
    """Return what a task came to: its result and no exception, or the reverse.

    Args:
        status: how the task ended.
        body: what came of it.
        safe: results are msgpack, and no pickle is loaded.
        trusted: pickles may run code. Else values of built-in types are loaded, and no others.
        exits: `SystemExit` and `KeyboardInterrupt` of a task come as they are. Else as stand-ins.
    """
    if status != Status.OK:
        from manyhands_shared.standard_errors import (  # noqa: PLC0415 - 8 ms
            remote_traceback,
            traceback_text,
        )

        error = exceptions.to_exception(status, body, pickled=trusted and not safe, exits=exits)
        if text := traceback_text(error):
            error.__cause__ = remote_traceback(with_source(text))
        if isinstance(error, ModuleNotFoundError):
            from manyhands._results.missing_distribution import advice_for  # noqa: PLC0415 - 10 ms

            if advice := advice_for(error):
                error.add_note(advice)
        return None, error
    loads = safe_payloads.loads if safe else pickled.loads if trusted else restricted.loads
    try:
        return loads(body), None
    except restricted.UntrustedValue as named:
        return None, ResultWithheld(
            f"not loaded: the result holds {named}, and loading that runs code of the job's owner here"
        )
    except Exception as error:  # loading runs the user's code; only this task fails
        if is_from_handler(error):
            raise
        from manyhands_shared.standard_errors import ResultNotLoaded  # noqa: PLC0415 - 8 ms

        problem = ResultNotLoaded(
            f"the task succeeded, but its result does not load here: "
            f"{type(error).__name__}: {error}; is the same code installed on both sides?"
        )
        problem.__cause__ = error
        return None, problem
