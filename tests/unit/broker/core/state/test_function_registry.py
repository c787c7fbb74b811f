"""A function is one body; what is none must not reach a node, which would wait for another for ever."""

from __future__ import annotations

from typing import Any

import pytest

from manyhands_broker.core import Core, Drained, Limits, Received, Send
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m

DIGEST = b"d" * 16


@pytest.mark.parametrize("bodies", [[], [b"one", b"two"]])
def test_a_function_of_another_number_of_bodies_is_refused(bodies: list[Any]) -> None:
    core = Core(Limits(), bytes(16), MemoryJournal(), 0.0)

    def say(peer: bytes, message: m.Message) -> list[Any]:
        core.handle(Received(peer, message), 0.0)
        effects = core.handle(Drained(), 0.0)
        return [effect.message for effect in effects if isinstance(effect, Send)]

    say(b"n", m.WorkerHello(1, "n", b"n" * 16, 1, 8, [], {}))
    say(b"c", m.ClientHello(1, b"t" * 16, "", 0, 0, {}))
    say(b"c", m.Submit([m.SubmitGroup("j", DIGEST, {}, 0, True, [b"args"])]))
    assert not say(b"c", m.Function(DIGEST, "f", bodies))
    assert core.state.counters["refused_functions"] == 1
    sent = say(b"c", m.Function(DIGEST, "f", [b"code"]))
    assert any(isinstance(message, m.Assign) for message in sent)
