"""Pickles of a source that is not trusted: values of built-in types are loaded, nothing else."""

from __future__ import annotations

import io
import pickle
from typing import Any

from manyhands_shared.payloads.payload import Payload


class UntrustedValue(Exception):
    """A pickle names something beyond the built-in types; the text says what."""


class _BuiltIn(pickle.Unpickler):
    """Loads only values for which no code but the interpreter's own runs."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Refuse: what a pickle names may run when it is loaded."""
        raise UntrustedValue(f"{module}.{name}")


def loads(payload: Payload) -> Any:
    """Return the value of a payload if it is one of built-in types.

    Numbers, text, bytes and the four collections of them are such values.

    Raises:
        UntrustedValue: the value is of another type, and nothing of it was loaded.
        pickle.UnpicklingError, EOFError, ValueError: it is no pickle.
    """
    head, *buffers = payload if isinstance(payload, tuple) else (payload,)
    return _BuiltIn(io.BytesIO(head), buffers=buffers).load()
