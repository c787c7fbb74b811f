"""Functions and results as they travel."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import cloudpickle

from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import failure
from manyhands_shared.protocol.status import Status

#: How long a test waits for anything, in seconds.
PATIENCE = 100.0


def code_of(function: Any) -> tuple[bytes, bytes]:
    """Digest and payload of a function. What is defined in a test module travels by value."""
    ours = [m for name, m in sys.modules.items() if name.rpartition(".")[2].startswith("test_")]
    for module in ours:
        cloudpickle.register_pickle_by_value(module)
    try:
        code = pickled.dumps_by_value(function)
    finally:
        for module in ours:
            cloudpickle.unregister_pickle_by_value(module)
    assert isinstance(code, bytes)
    return hashlib.blake2b(code, digest_size=16).digest(), code


def value_of(status: int, body: Payload) -> Any:
    """A result's value, or its failure."""
    return pickled.loads(body) if status == Status.OK else failure.Failure.decode(body)
