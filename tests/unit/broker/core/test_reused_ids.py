"""An id that is used again: nodes may still hold what the job before it left behind."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core import Core, Drained, Limits, Received, Send
from manyhands_broker.core.transitions import ID_REUSE_DELAY
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m

DIGEST = b"d" * 16


def test_a_job_under_the_id_of_another_waits_until_that_one_is_forgotten_everywhere() -> None:
    core = Core(Limits(lease=100.0), bytes(16), MemoryJournal(), 0.0)

    def tell(event: Any, now: float) -> list[Any]:
        effects = core.handle(event, now) + core.handle(Drained(), now)
        return [effect.message for effect in effects if isinstance(effect, Send)]

    def submit(peer: bytes, now: float) -> list[Any]:
        group = m.SubmitGroup("job", DIGEST, {}, 0, True, [b"args"])
        sent = tell(Received(peer, m.Submit([group])), now)
        return [message for message in sent if isinstance(message, m.Assign)]

    tell(Received(b"n", m.WorkerHello(1, "n", b"n" * 16, 1, 8, [], {})), 0.0)
    for peer in (b"c", b"d"):
        tell(Received(peer, m.ClientHello(1, peer * 16, "", 0, 0, {})), 0.0)
    tell(Received(b"c", m.Function(DIGEST, "f", [b"code"])), 0.0)
    assert submit(b"c", 0.0)
    result = m.ResultGroup("job", 1, [0], b"\0", [b"r"], 0.1)
    tell(Received(b"n", m.Results(1, [result])), 0.0)
    # The node keeps the first one's result until it is acknowledged, and would take this for that.
    assert not submit(b"d", 0.001)
    assert any(isinstance(message, m.Assign) for message in tell(Drained(), 0.0 + ID_REUSE_DELAY))
