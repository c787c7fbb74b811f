"""What the codecs of a child load, and what they refuse."""

from __future__ import annotations

import enum
import pickle
import types

import pytest

from manyhands_shared.payloads import pickled
from manyhands_worker.child.codec import ForeignPickleCodec


def test_an_enumeration_by_value_is_refused_from_another_python() -> None:
    space = types.SimpleNamespace(made=enum.Enum("made", {"ONE": 1}, module="nowhere"))
    payload = pickled.dumps_by_value(space.made.ONE, 1 << 20)
    assert isinstance(payload, bytes)
    assert pickle.loads(payload).value == 1
    with pytest.raises(pickle.UnpicklingError, match="another Python"):
        ForeignPickleCodec().value(payload)
