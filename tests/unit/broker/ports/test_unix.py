"""The door for processes of this machine."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from harness.processes import eventually, no_descriptor_left
from manyhands_broker.core import Event, Received
from manyhands_broker.poller import Poller
from manyhands_broker.ports.encoding import Codec
from manyhands_broker.ports.unix import UnixPort
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Ping
from manyhands_shared.transport.stream import Stream


def test_a_connection_without_a_descriptor_waits_and_is_not_told_of_again(tmp_path: Path) -> None:
    poller = Poller()
    codec = Codec(cast("Any", SimpleNamespace()), Counter())
    path = tmp_path / "door"
    taken: list[Event] = []
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(contextlib.closing(UnixPort([f"unix://{path}"], poller, codec)))
        client = Stream(socket.socket(socket.AF_UNIX))
        stack.callback(client.close)
        client._socket.connect(str(path))
        client.send(wire.encode(Ping(7)))
        with no_descriptor_left():
            ready = poller.wait(60.0)
            assert ready
            poller.call(ready)
            assert not poller.wait(0), "the loop would turn without a rest"
            # Looked at again, and there is still none.
            port.check(0.5)
            poller.call(poller.wait(60.0))
            assert not poller.wait(0)
        port.check(1.0)

        def message() -> Event | None:
            ready = poller.wait(0)
            poller.call(ready)
            port.receive(ready, 0.0, taken.append)
            return taken[0] if taken else None

        event = eventually(message)
    assert isinstance(event, Received)
    assert event.message == Ping(7)
