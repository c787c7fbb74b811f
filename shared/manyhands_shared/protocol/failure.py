"""A task's failure as a payload that loads everywhere.

A failure payload is a msgpack map, whatever made it (a node in Python, a node in another language,
the broker itself):

============== ========= ===================================================================
key            type      meaning
============== ========= ===================================================================
``type``       str       the exception's class, as ``module.qualname``
``message``    str       its text, one line or several
``args``       [str]     the `repr` of each of its arguments
``bases``      [str]     the built-in exceptions it derives from, nearest first
``traceback``  str       the formatted traceback of the node; empty if there was none
``pickle``     bin|nil   the exception itself, proven to load in the child that raised it
``story``      [str]     one line for each attempt that ended badly
``note``       str       whose failure it is, if another task's made this one fail; else empty
============== ========= ===================================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import msgpack

from manyhands_shared.payloads.payload import Payload

#: The type of a failure that the client raises as `SubmitRejected`.
SUBMIT_REJECTED = "manyhands.SubmitRejected"
#: The type of a failure that the client raises as `InitializerFailed`.
INITIALIZER_FAILED = "manyhands.InitializerFailed"
#: The type of a failure that the client raises as `ResultNotLoaded`.
RESULT_NOT_LOADED = "manyhands.ResultNotLoaded"
#: The type of a failure that the client raises as `TaskMemoryExceeded`.
MEMORY_EXCEEDED = "manyhands.TaskMemoryExceeded"
#: The type of a failure that the client raises as `EnvironmentFailed`.
ENVIRONMENT_FAILED = "manyhands.EnvironmentFailed"
#: What comes of bytes that are no failure. Not any exception: a signal handler's is not swallowed.
_UNREADABLE = (
    msgpack.UnpackException,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task failed, in terms that need no class of the user's."""

    type: str
    message: str
    args: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    traceback: str = ""
    pickle: bytes | None = None
    story: tuple[str, ...] = ()
    note: str = ""

    def encode(self) -> bytes:
        """The payload."""
        return bytes(msgpack.packb(asdict(self), use_bin_type=True, unicode_errors="replace"))

    @classmethod
    def decode(cls, payload: Payload) -> Failure:
        """Read a failure payload; one that makes no sense becomes a failure that says so."""
        try:
            data = payload if isinstance(payload, bytes) else bytes(payload[0])
            fields: dict[str, Any] = msgpack.unpackb(data, raw=False)
            pickled = fields["pickle"]
            return cls(
                type=str(fields["type"]),
                message=str(fields["message"]),
                args=_texts(fields["args"]),
                bases=_texts(fields["bases"]),
                traceback=str(fields["traceback"]),
                pickle=pickled if isinstance(pickled, bytes) else None,
                story=_texts(fields["story"]),
                note=str(fields.get("note", "")),
            )
        except _UNREADABLE as error:
            return cls("manyhands.TaskError", f"the node sent an unreadable failure ({error})")


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(str, values))
