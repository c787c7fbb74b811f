"""What a socket monitor says is read without the library's helper, and says the same."""

from __future__ import annotations

import subprocess
import sys

import pytest
import zmq

from manyhands_shared.transport import zmq_monitor


def test_it_tells_of_a_connection_and_of_its_end() -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        events = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        assert zmq_monitor.read(events) is None
        with context.socket(zmq.ROUTER) as router:
            port = router.bind_to_random_port("tcp://127.0.0.1")
            dealer.connect(f"tcp://127.0.0.1:{port}")
            assert events.poll(100_000)
            found = zmq_monitor.read(events)
            assert found is not None
            assert found[0] == zmq.EVENT_HANDSHAKE_SUCCEEDED
            router.close(0)
            assert events.poll(100_000)
            found = zmq_monitor.read(events)
            assert found is not None
            assert found[0] == zmq.EVENT_DISCONNECTED
        dealer.disable_monitor()
        events.close(0)
        dealer.close(0)


@pytest.mark.parametrize(
    "module", ["manyhands.pool", "manyhands_broker.server", "manyhands_worker.node"]
)
def test_no_part_loads_asyncio_at_its_start(module: str) -> None:
    """It takes longer to load than everything else that a part needs at its start."""
    code = f"import sys, {module}; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
