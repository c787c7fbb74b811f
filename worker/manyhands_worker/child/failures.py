"""From what a task's code has raised in a pool child to the failure that its client is told."""

from __future__ import annotations

from dataclasses import replace

from manyhands_shared.errors import ProgramFailed
from manyhands_shared.protocol.exceptions import of_exception
from manyhands_shared.protocol.failure import INITIALIZER_FAILED, Failure


class Told(Exception):
    """Another exception, with words that say where it comes from."""

    def __init__(self, words: str, error: BaseException) -> None:
        super().__init__(words)
        self.words = words
        self.error = error


class InitializerRaised(Told):
    """What an initializer has raised; logged as the standard library's executors log it."""

    def __init__(self, error: BaseException) -> None:
        import logging  # noqa: PLC0415 - few children ever need it

        super().__init__("the initializer failed", error)
        logger = logging.getLogger("concurrent.futures")
        logger.critical("Exception in initializer:", exc_info=error)


def failure_of(error: BaseException, file: str, *, pickled: bool) -> Failure:
    """Describe what was raised; frames of `file`, the outermost ones, are left out.

    Its pickle is in the failure only with `pickled`, and if it has come as such.
    """
    if isinstance(error, Told):
        inner = of_exception(error.error, skip_frames=1, pickled=False)
        if isinstance(error, InitializerRaised):
            # Its class is named among the bases, for `retry_on`.
            return replace(
                inner,
                type=INITIALIZER_FAILED,
                bases=(inner.type, *inner.bases),
                message=f"{error.words}: {inner.type}: {inner.message}",
            )
        # Without its pickle: the exception as such would not say what failed.
        return replace(inner, message=f"{error.words}: {inner.message}")
    failure = of_exception(error, skip_frames=_frames_of(file, error), pickled=pickled)
    if isinstance(error, ProgramFailed):
        return replace(failure, traceback="")  # of a program: nothing of it is the user's
    if isinstance(error, SystemExit):
        return replace(failure, message=f"the task called sys.exit({_shown(error.code)})")
    if isinstance(error, KeyboardInterrupt):
        return replace(failure, message="the task raised KeyboardInterrupt")
    return failure


def _frames_of(file: str, error: BaseException) -> int:
    """How many of the outermost frames of its traceback are of this file."""
    count, trace = 0, error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == file:
        count, trace = count + 1, trace.tb_next
    return count


def _shown(code: object) -> str:
    return "" if code is None else repr(code) if isinstance(code, int | str) else "…"
